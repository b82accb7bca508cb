"""The page Streams in Airflow's own pages, where Airflow 3 has this package installed."""

#: Where its server is, below Airflow's address; `streams.js` has it too.
PATH = "yellow-dynamic"
