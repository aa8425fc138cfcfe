"""Running a compiled model: the native library, sessions, generation."""
