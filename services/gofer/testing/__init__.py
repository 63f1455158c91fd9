"""What tests of the gofer, and of its clients, share. Not imported by the gofer itself."""
