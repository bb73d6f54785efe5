"""For continuous integration: the pipeline as a matrix of jobs, its parts joined again, and all of it in a folder to carry."""
