"""Training samples: layouts of data sets on disk, decoding, patches and batches."""
