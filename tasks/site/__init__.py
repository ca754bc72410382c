"""The site that is made from the notebooks: its pages, reference, diagrams and checks."""  # noqa: A005 (nothing imports it as `site`)
