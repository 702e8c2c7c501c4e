"""The status page: what `lbspeaker status` says, with a picture, and kept up to date.

    API server ─GET, while somebody looks─▶ Look ─▶ Overview, Rates ─▶ HTML and SVG ─▶ a browser

It only reads. Everything is made here, as text that cannot become markup; the browser gets no other script
than one that fetches the same page again. Without script it is complete, and reloads itself.
"""
