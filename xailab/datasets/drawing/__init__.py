"""Drawing tools of the rendered data sets: paths, a pen, colours, and fields over the unit square (shapes)."""
