"""What people look at: figures of connection health, their charts, and the report; the notebook shares them.

`frames` reads the views into pandas, `figures` says which frames there are, `survival` adds confidence bands,
`charts` draws them, `drawings` makes inline SVG of the charts, and `page` the HTML file.
"""
