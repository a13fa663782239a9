"""The pages of docs/reference/, each written from the part of the code that it describes."""
