"""The data path: file → frames → faces and views, sound → augmentation → batch. Never imports models."""
