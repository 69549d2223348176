// Draws the committed dashboards from a recorded run (cli/examples/record):
//   node draw.mjs RUN OUT
// Starts Debian's Prometheus over RUN/tsdb, executes each panel's expressions as Grafana would, and takes a picture
// of each dashboard in headless Chromium.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync, mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import UPNG from 'upng-js';

const WIDTH = 1400;
const COLOURS = 128;
/** The data source's "scrape interval", from which Grafana derives a query's step and $__rate_interval. */
const SCRAPE = 5;
const RATE_INTERVAL = 4 * SCRAPE;
/** What the variables are set to, where not everything. */
const CHOSEN = { 'uvs-service': { vip: '192.168.0.38' } };

const [run, out] = process.argv.slice(2);
if (!run || !out) {
  throw new Error('usage: node draw.mjs RUN OUT');
}
const { from, to } = JSON.parse(readFileSync(join(run, 'run.json')));
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
mkdirSync(out, { recursive: true });
const prometheus = await startPrometheus();
try {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
  for (const uid of ['uvs-overview', 'uvs-service', 'uvs-datapath']) {
    await draw(browser, uid);
  }
  await browser.close();
} finally {
  prometheus.process.kill();
}

async function startPrometheus() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  const config = join(tmpdir(), `uvs-draw-${process.pid}.yml`);
  writeFileSync(config, 'scrape_configs: []\n');
  const words = [
    `--config.file=${config}`, `--storage.tsdb.path=${join(run, 'tsdb')}`, `--web.listen-address=127.0.0.1:${port}`,
    '--storage.tsdb.retention.time=10y', '--query.lookback-delta=10s', '--log.level=error',
  ];
  const child = spawn('prometheus', words, { stdio: ['ignore', 'ignore', 'inherit'] });
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; tries < 300; tries++) {
    const answer = await fetch(`${url}/-/ready`).catch(() => undefined);
    if (answer?.ok) {
      return { process: child, url };
    }
    await pause(100);
  }
  child.kill();
  throw new Error('Prometheus did not get ready');
}

async function draw(browser, uid) {
  const dashboard = JSON.parse(readFileSync(here(`../dashboards/${uid}.json`)));
  const names = dashboard.templating.list.filter((v) => v.type === 'query').map((v) => v.name);
  const chosen = CHOSEN[uid] ?? {};
  const answers = {};
  for (const panel of dashboard.panels) {
    answers[panel.id] = await Promise.all((panel.targets ?? []).map((target) => query(target, names, chosen)));
  }
  const marks = (await Promise.all(dashboard.annotations.list.map((mark) => marksOf(mark, names, chosen)))).flat();
  const variables = Object.fromEntries(names.map((name) => [name, chosen[name] ?? 'All']));
  const page = await browser.newPage({ viewport: { width: WIDTH, height: 900 }, timezoneId: 'UTC' });
  const problems = [];
  page.on('pageerror', (error) => problems.push(error.stack));
  // Grafana's own styles name fonts where a Grafana server has them; ours come from their package.
  page.on('console', (m) => m.type() === 'error' && !m.text().includes('ERR_FAILED') && problems.push(m.text()));
  await page.route('http://draw/**', (route) => {
    const { pathname } = new URL(route.request().url());
    const weight = pathname.match(/^\/fonts\/(\d+)\.woff2$/)?.[1];
    if (weight) {
      return route.fulfill({ path: here(`node_modules/@fontsource/inter/files/inter-latin-${weight}-normal.woff2`) });
    }
    const path = join(here('dist'), pathname === '/' ? 'index.html' : pathname);
    return existsSync(path) ? route.fulfill({ path }) : route.abort();
  });
  await page.addInitScript((board) => (window.board = board), {
    dashboard, answers, marks, variables, from, to, step: SCRAPE, width: WIDTH,
  });
  await page.goto('http://draw/');
  await page.waitForSelector(`#board[data-drawn="${dashboard.panels.length}"]`, { timeout: 30_000 }).catch((e) => problems.push(e));
  // Tables draw nothing outside the window.
  const { height } = await page.locator('#board').boundingBox();
  await page.setViewportSize({ width: WIDTH, height: Math.ceil(height) });
  await pause(1500);
  if (problems.length) {
    throw new Error(`${uid}: ${problems.join('\n')}`);
  }
  const picture = UPNG.decode(await page.locator('#board').screenshot());
  const file = join(out, `${uid}.png`);
  const bytes = UPNG.encode(UPNG.toRGBA8(picture), picture.width, picture.height, COLOURS);
  writeFileSync(file, Buffer.from(bytes));
  console.log(`${file}: ${picture.width}x${picture.height}, ${Math.ceil(bytes.byteLength / 1024)} KiB`);
  await page.close();
}

async function query(target, names, chosen) {
  let expr = target.expr.replaceAll('$__rate_interval', `${RATE_INTERVAL}s`);
  for (const name of names) {
    expr = expr.replaceAll(`$${name}`, chosen[name]?.replaceAll('.', '\\\\.') ?? '.+');
  }
  const asked = target.instant ? { query: expr, time: to } : { query: expr, start: from, end: to, step: SCRAPE };
  const path = target.instant ? 'query' : 'query_range';
  const answer = await fetch(`${prometheus.url}/api/v1/${path}?${new URLSearchParams(asked)}`).then((r) => r.json());
  if (answer.status !== 'success') {
    throw new Error(`${expr}: ${answer.error}`);
  }
  return answer.data.result;
}

/** When each of an annotation's series begins to be, which is when it happened. */
async function marksOf({ expr, iconColor: colour, name }, names, chosen) {
  const results = await query({ expr, legendFormat: name }, names, chosen);
  return results.flatMap(({ values }) => {
    const times = values.map(([time]) => time);
    return times.filter((time, i) => time - (times[i - 1] ?? 0) > SCRAPE).map((time) => ({ time: time * 1000, colour }));
  });
}
