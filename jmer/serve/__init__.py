"""The page of `jmer.demo`: uploads in, timelines out."""
