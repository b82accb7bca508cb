"""What turning rows into DAGs costs, next to the other ways of making the same DAGs."""

AIRFLOW_DATABASE = "airflow"
