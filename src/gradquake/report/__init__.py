"""Results for a reader: sentences, tables, JSON and figures. Nothing here computes a statistic."""
