"""The data path: file → frames → faces and views, audio → augmentation → batch. Never imports models."""
