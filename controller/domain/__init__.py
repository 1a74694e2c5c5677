"""What Lambda's API is about, as values and pure functions: no HTTP, no SQL, no Redis."""
