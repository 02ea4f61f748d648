"""Programs that come with the package, each with the children that serve it."""
