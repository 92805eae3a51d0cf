//! What stands around the content of the page: its head and its looks.

/// The beginning of the page, up to the content. `title` is escaped.
pub(super) fn head(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main>\n"
    )
}

pub(super) const FOOT: &str = "</main></body></html>\n";

/// Tables become lists of cards where there is no room for columns.
const STYLE: &str = "
:root{--fg:#1d2329;--dim:#66707a;--line:#dfe3e6;--card:#f5f7f8;--bg:#fff;--bad:#b3261e;--accent:#2a62c9;
--db:#3b82c4;--http:#8a5cc2;--cache:#2f9e6e;--messaging:#c7791a;--point:#7a8791}
@media(prefers-color-scheme:dark){:root{--fg:#e4e8eb;--dim:#98a2ab;--line:#343b41;--card:#1f2429;--bg:#16191c;--bad:#ff8a80;
--accent:#8ab4f8}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.45 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:16px}
h1{font-size:1.4rem;margin:.2em 0}h2{font-size:1.25rem;margin:1.6em 0 .3em;border-top:2px solid var(--line);padding-top:.8em}
h3{font-size:1rem;margin:1.5em 0 .4em}
p{margin:.3em 0}.dim{color:var(--dim)}.bad{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(110px,1fr));gap:8px;margin:.8em 0}
.tiles div{background:var(--card);border-radius:6px;padding:8px 10px}.tiles b{display:block;font-size:1.15rem}
.tiles span{color:var(--dim);font-size:.8rem}
table{border-collapse:collapse;width:100%}
th{font-weight:600;color:var(--dim);font-size:.8rem;text-align:right;padding:3px 8px;border-bottom:1px solid var(--line)}
td{text-align:right;padding:4px 8px;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top;
font-variant-numeric:tabular-nums}
th:first-child,td:first-child{text-align:left;white-space:normal;overflow-wrap:anywhere;padding-left:0}
code,pre{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
pre{white-space:pre-wrap;margin:.4em 0;background:var(--card);padding:8px;border-radius:6px}
small{display:block;color:var(--dim);font-size:.8rem}
details{border-bottom:1px solid var(--line)}summary{cursor:pointer;padding:5px 0;overflow-wrap:anywhere}
summary b{font-variant-numeric:tabular-nums}
.inside{padding:2px 0 12px 14px}
.span{display:grid;grid-template-columns:minmax(0,2fr) minmax(0,3fr) 76px;gap:8px;align-items:center;padding:2px 0;
font-size:.85rem}
.span>span:first-child{overflow-wrap:anywhere}.span>span:last-child{text-align:right;font-variant-numeric:tabular-nums}
.lane{background:var(--card);height:14px;border-radius:3px;position:relative;overflow:hidden}
.lane i{position:absolute;top:0;bottom:0;min-width:2px;border-radius:3px}
.all{background:var(--dim)}.db{background:var(--db)}.http{background:var(--http)}.cache{background:var(--cache)}
.messaging{background:var(--messaging)}.point{background:var(--point)}
.flame{width:100%;border:1px solid var(--line);border-radius:6px}
svg.chart{width:100%;height:150px;display:block}svg.chart text{fill:var(--dim);font-size:11px}
@media(max-width:680px){
main{padding:10px}
table,tbody,tr,td{display:block}thead{display:none}
tr{border-bottom:1px solid var(--line);padding:6px 0;display:grid;grid-template-columns:repeat(3,1fr);gap:0 8px}
td{border:0;padding:1px 0;text-align:left}td:first-child{grid-column:1/-1}
td[data-l]::before{content:attr(data-l);display:block;color:var(--dim);font-size:.7rem}
.span{grid-template-columns:1fr 76px}.span>span:first-child{grid-column:1/-1}
.inside{padding-left:4px}
}
";
