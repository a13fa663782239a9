"""The viewer of scans in the browser: what it shows, and the page that shows it."""
