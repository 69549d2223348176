// A dashboard on Grafana's grid of 24 columns; draw.mjs puts it, its data and its time range into `window.board`.
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { createTheme, dateTime, ThemeContext } from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import '@grafana/react-data-grid/lib/styles.css';
import { GlobalStyles, PanelChrome } from '@grafana/ui';
import { framesOf } from './frames.js';
import { Panel } from './panels.jsx';

const CELL = 30;
const GAP = 8;
const COLUMNS = 24;
const MARGIN = 16;

const theme = createTheme({ colors: { mode: 'dark' } });
const { dashboard, answers, marks, variables, from, to, step, width } = window.board;
const range = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: 'now-7m', to: 'now' } };
const column = (width - 2 * MARGIN + GAP) / COLUMNS;

const left = ({ x }) => x * column;
const top = ({ y }) => y * (CELL + GAP);
const wide = ({ w }) => w * column - GAP;
const high = ({ h }) => h * (CELL + GAP) - GAP;

function Board() {
  const [drawn, setDrawn] = useState([]);
  useEffect(() => {
    const load = (panel) => framesOf(panel, answers[panel.id], step, theme).then((frames) => ({ panel, frames }));
    const rows = dashboard.panels.filter((p) => p.type === 'row').map((panel) => ({ panel, frames: [] }));
    const rest = dashboard.panels.filter((p) => p.type !== 'row');
    Promise.all(rest.map(load)).then((loaded) => setDrawn([...rows, ...loaded]));
  }, []);
  const bottom = Math.max(...dashboard.panels.map(({ gridPos }) => top(gridPos) + high(gridPos)));
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div id="board" data-drawn={drawn.length} style={{ padding: MARGIN, background: theme.colors.background.canvas }}>
        <Head />
        <div style={{ position: 'relative', height: bottom }}>
          {drawn.map(({ panel, frames }) => (
            <div key={panel.id} style={{ position: 'absolute', left: left(panel.gridPos), top: top(panel.gridPos) }}>
              {panel.type === 'row' ? <Row title={panel.title} /> : <Framed panel={panel} frames={frames} />}
            </div>
          ))}
        </div>
      </div>
    </ThemeContext.Provider>
  );
}

function Framed({ panel, frames }) {
  const { gridPos, title, description } = panel;
  return (
    <PanelChrome title={title} description={description} width={wide(gridPos)} height={high(gridPos)}>
      {(w, h) => <Panel panel={panel} frames={frames} width={w} height={h} theme={theme} range={range} marks={marks} />}
    </PanelChrome>
  );
}

function Row({ title }) {
  return <div style={{ fontSize: 16, fontWeight: 500, paddingTop: 6, color: theme.colors.text.primary }}>⌄ {title}</div>;
}

function Head() {
  const { text, background, border } = theme.colors;
  const box = { border: `1px solid ${border.medium}`, borderRadius: 2, padding: '4px 8px', marginRight: 8, display: 'inline-block' };
  return (
    <div style={{ marginBottom: 16, color: text.primary }}>
      <div style={{ fontSize: 18, fontWeight: 500, marginBottom: 10 }}>{dashboard.title}</div>
      {Object.entries(variables).map(([name, value]) => (
        <span key={name} style={{ ...box, background: background.primary }}>
          <span style={{ color: text.secondary, marginRight: 8 }}>{name}</span>{value}
        </span>
      ))}
    </div>
  );
}

await initPluginTranslations('uvs-draw');
// Sizes of big values are measured before they are drawn, and so with the font that is there by then.
const fonts = document.createElement('style');
fonts.textContent = [400, 500]
  .map((weight) => `@font-face { font-family: Inter; font-weight: ${weight}; src: url(/fonts/${weight}.woff2) }`)
  .join('\n');
document.head.append(fonts);
await Promise.all([400, 500].map((weight) => document.fonts.load(`${weight} 16px Inter`)));
createRoot(document.getElementById('root')).render(<Board />);
