import os

# Keeps submitit from setting up logging when it is imported, which closes pytest's capture.
os.environ["SUBMITIT_LOG_LEVEL"] = "NOCONFIG"
