"""What is changed about a training scan: points, image, mixing and weather, each a function of a scan and a random generator."""
