"""Files of points and of records, read as the untrusted input they are."""
