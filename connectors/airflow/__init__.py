"""nextmove in Airflow: a provider with one operator, one hook and one type of connection."""
