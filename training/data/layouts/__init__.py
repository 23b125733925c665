"""The layouts of published data sets, and of folders of one's own: a folder becomes references to its samples.

Layouts are as the data sets' archives and their authors' loaders name the files; nothing is read here but
names, and a few images of an unnamed layout. Folders named test or val below the named one are left out: they
are for scores, not for training.
"""
