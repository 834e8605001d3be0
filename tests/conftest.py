import os

# The suite never looks at a hub, and small models are fastest on few threads.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")
