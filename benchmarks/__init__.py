"""What the factory's DAGs cost, compared with other ways of making the same DAGs."""

AIRFLOW_DATABASE = "airflow"

#: Values by quantity, number of streams, side and comparison; JSON has texts as its keys.
Figures = dict[str, dict[str, dict[str, dict[str, float]]]]
