"""Service classes (PS3.4): one module each, with SCU verbs and SCP behaviour."""
