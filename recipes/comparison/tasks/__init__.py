"""The tasks of the comparison, one module for each family; `registry` names them."""
