"""project_name: what is about this project's own problem; model_name is the machinery."""
