"""The site that is made from the notebooks: its pages, reference, diagrams and checks."""
