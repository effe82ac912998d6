"""The features of training pictures, kept so that the source need not be run for them again."""
