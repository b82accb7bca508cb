"""The page Streams in Airflow's own pages, where Airflow 3 has this package installed."""
