// Prometheus's answers as Grafana's data frames, with a panel's field settings on their fields.
//
// The data source and the loader that do this inside Grafana are not published, so this does what they do for
// the settings that our dashboards use.
import {
  cacheFieldDisplayNames, FieldType, getDisplayProcessor, standardTransformers, standardTransformersRegistry, toDataFrame, transformDataFrame,
} from '@grafana/data';
import { lastValueFrom } from 'rxjs';

const { mergeTransformer, organizeFieldsTransformer, filterFieldsByNameTransformer, renameFieldsTransformer, orderFieldsTransformer } =
  standardTransformers;
standardTransformersRegistry.setInit(() =>
  [mergeTransformer, organizeFieldsTransformer, filterFieldsByNameTransformer, renameFieldsTransformer, orderFieldsTransformer]
    .map((transformation) => ({ id: transformation.id, name: transformation.name, transformation: async () => transformation })),
);

// What Grafana's time series panel takes where a dashboard is silent.
const LINE_DEFAULTS = {
  drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none', spanNulls: false,
  showPoints: 'auto', pointSize: 5, stacking: { mode: 'none', group: 'A' }, axisPlacement: 'auto', axisLabel: '',
  axisGridShow: true, axisColorMode: 'text', axisBorderShow: false, axisCenteredZero: false, barAlignment: 0,
  scaleDistribution: { type: 'linear' }, hideFrom: { legend: false, tooltip: false, viz: false },
  thresholdsStyle: { mode: 'off' },
};

/** The frames of a panel, whose `answers` are one list of results for each of its targets. */
export async function framesOf(panel, answers, step, theme) {
  let frames = panel.targets.flatMap((target, i) =>
    target.format === 'table'
      ? [tableFrame(target, answers[i], panel.targets.length)]
      : answers[i].map((result) => seriesFrame(target, result, step)),
  );
  if (panel.transformations?.length) {
    frames = await lastValueFrom(transformDataFrame(panel.transformations, frames));
  }
  let series = 0;
  for (const frame of frames) {
    for (const field of frame.fields) {
      settle(field, panel, theme, field.type === FieldType.number ? series++ : 0);
    }
  }
  const numbers = frames.flatMap((frame) => frame.fields).filter((field) => field.type === FieldType.number);
  const all = numbers.flatMap((field) => field.values).filter(Number.isFinite);
  for (const { config, state } of numbers) {
    const min = config.min ?? Math.min(...all, 0);
    const max = config.max ?? Math.max(...all, 0);
    state.range = { min, max, delta: max - min };
  }
  cacheFieldDisplayNames(frames);
  return frames;
}

function seriesFrame(target, result, step) {
  const points = result.values ?? [result.value];
  const name = target.legendFormat
    ? target.legendFormat.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => result.metric[label] ?? '')
    : labels(result.metric);
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: points.map((p) => p[0] * 1000), config: { interval: step * 1000 } },
      { name: 'Value', type: FieldType.number, labels: result.metric, values: points.map((p) => Number(p[1])), config: { displayNameFromDS: name } },
    ],
  });
}

function labels(metric) {
  const { __name__: name = '', ...rest } = metric;
  const pairs = Object.entries(rest).map(([label, value]) => `${label}="${value}"`);
  return `${name}{${pairs.join(', ')}}`;
}

function tableFrame(target, results, targets) {
  const names = [...new Set(results.flatMap((r) => Object.keys(r.metric)))].sort();
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: results.map((r) => r.value[0] * 1000) },
      ...names.map((name) => ({ name, type: FieldType.string, values: results.map((r) => r.metric[name] ?? '') })),
      { name: targets > 1 ? `Value #${target.refId}` : 'Value', type: FieldType.number, values: results.map((r) => Number(r.value[1])) },
    ],
  });
}

function settle(field, panel, theme, seriesIndex) {
  const { defaults, overrides } = panel.fieldConfig;
  const config = { ...structuredClone(defaults), ...field.config };
  if (panel.type === 'timeseries') {
    config.custom = { ...LINE_DEFAULTS, ...config.custom };
  }
  for (const { matcher, properties } of overrides) {
    if ([field.name, config.displayNameFromDS].some((name) => name !== undefined && fits(matcher, name))) {
      properties.forEach(({ id, value }) => set(config, id, value));
    }
  }
  config.thresholds?.steps.forEach((step) => (step.value ??= -Infinity));
  if (field.type !== FieldType.number) {
    delete config.unit;
  }
  field.config = config;
  field.state = { seriesIndex, displayName: config.displayName };
  field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
  if (config.links?.length) {
    // They are drawn as links; nobody clicks on a picture.
    field.getLinks = ({ valueRowIndex }) => (field.values[valueRowIndex] ? config.links.map(({ title }) => ({ title, href: '#' })) : []);
  }
}

function fits({ id, options }, name) {
  switch (id) {
    case 'byName':
      return options === name;
    case 'byRegexp':
      return new RegExp(options.replace(/^\/|\/$/g, '')).test(name);
    default:
      throw new Error(`unknown matcher ${id}`);
  }
}

function set(config, path, value) {
  const keys = path.split('.');
  const last = keys.pop();
  const parent = keys.reduce((object, key) => (object[key] ??= {}), config);
  parent[last] = value;
}
