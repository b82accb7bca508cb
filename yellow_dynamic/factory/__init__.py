"""The code that turns the rows of a platform's table into DAGs, inside Airflow.

Bootstrap joins these modules into the factory file of a platform; see `yellow_dynamic.joining`. So
they import from each other by `from yellow_dynamic.factory.x import name` alone, no two of them
have a top-level name in common, and each imports only from those before it in the order of joining.
`rules`, `causes` and `secrets` need no Airflow: the plugin and the command use them too.
"""
