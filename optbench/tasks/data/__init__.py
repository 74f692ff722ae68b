"""What tasks read: data that comes with a package, and files in a local folder; nothing is downloaded."""
