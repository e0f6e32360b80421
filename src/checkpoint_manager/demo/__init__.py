"""The demonstration: a real pipeline that is killed, resumes, goes back and refuses a forged file."""
