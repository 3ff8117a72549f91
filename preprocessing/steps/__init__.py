"""One step a module: images in, images or numbers out."""
