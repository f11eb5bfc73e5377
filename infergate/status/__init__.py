"""The status page and its feed.

    site       the page and its feed, as the gateway serves them
    visitors   who may see the page without a key
    feed       the event stream that the page reads: one line a second for each who looks
    page       one self-contained document, and the policy that its browser is held to
    history    the last hour and the last exchanges, out of the record and of nothing else
    durations  the percentiles of what ended, out of a few counts

`page.html`, `page.css` and `page.js` are the page itself. `uplot.js` and `uplot.css` are uPlot
1.6.32, which draws the plots, unchanged; `uplot.LICENSE` is its licence.
"""
