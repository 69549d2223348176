// One panel, drawn by the component of Grafana's that its type's plugin is made of.
import { getFieldDisplayValues } from '@grafana/data';
import { useLayoutEffect } from 'react';
import { BarGauge, BigValue, TimeSeries } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

const GAP = 10;
const as = { stat: Stat, bargauge: Bars, timeseries: Lines, table: Table, text: Text };

export function Panel(props) {
  const Drawn = as[props.panel.type];
  if (!Drawn) {
    throw new Error(`no component for a panel of type ${props.panel.type}`);
  }
  const empty = props.panel.type !== 'text' && props.frames.every((f) => f.length === 0);
  const none = props.panel.fieldConfig?.defaults.noValue ?? 'No data';
  return empty ? <div style={{ textAlign: 'center', padding: `${props.height / 3}px 16px` }}>{none}</div> : <Drawn {...props} />;
}

function Lines({ panel, frames, width, height, range, marks, theme }) {
  return (
    <TimeSeries frames={frames} width={width} height={height} timeRange={range} timeZone="utc" legend={panel.options.legend}>
      {(config) => <Marks {...{ config, marks, theme }} />}
    </TimeSeries>
  );
}

/** What has happened, as a line from top to bottom each. */
function Marks({ config, marks, theme }) {
  useLayoutEffect(() => {
    config.addHook('draw', ({ ctx, bbox, valToPos }) => {
      ctx.save();
      ctx.setLineDash([4, 4]);
      for (const { time, colour } of marks) {
        const x = valToPos(time, 'x', true);
        ctx.strokeStyle = theme.visualization.getColorByName(colour);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
      }
      ctx.restore();
    });
  }, [config]);
  return null;
}

function values({ panel, frames, theme }) {
  const { fieldConfig, options } = panel;
  const replaceVariables = (text) => text;
  return getFieldDisplayValues({
    data: frames, fieldConfig, reduceOptions: options.reduceOptions, replaceVariables, theme, timeZone: 'utc',
    sparkline: (options.graphMode ?? 'none') !== 'none',
  });
}

/** The values side by side, or below each other where that is asked for. */
function Each({ width, height, count, vertical, draw }) {
  const size = vertical ? [width, (height + GAP) / count - GAP] : [(width + GAP) / count - GAP, height];
  return (
    <div style={{ display: 'flex', gap: GAP, flexDirection: vertical ? 'column' : 'row' }}>
      {Array.from({ length: count }, (_, i) => <div key={i}>{draw(i, ...size)}</div>)}
    </div>
  );
}

function Stat(props) {
  const { panel, width, height, theme, range } = props;
  const all = values(props);
  const { colorMode, graphMode, textMode, justifyMode } = panel.options;
  const draw = (i, w, h) => (
    <BigValue
      value={all[i].display} sparkline={all[i].sparkline && { ...all[i].sparkline, timeRange: range }} width={w} height={h} theme={theme} count={all.length}
      colorMode={colorMode} graphMode={graphMode} textMode={textMode} justifyMode={justifyMode}
    />
  );
  return <Each {...{ width, height, draw }} count={all.length} />;
}

function Bars(props) {
  const { panel, width, height, theme } = props;
  const all = values(props);
  const { displayMode, orientation, showUnfilled } = panel.options;
  const draw = (i, w, h) => (
    <BarGauge
      value={all[i].display} field={all[i].field} width={w} height={h} theme={theme} displayMode={displayMode}
      orientation={orientation} showUnfilled={showUnfilled} text={{ valueSize: 14, titleSize: 14 }}
    />
  );
  return <Each {...{ width, height, draw }} count={all.length} vertical />;
}

function Table({ panel, frames, width, height, theme }) {
  return (
    <TableNG
      data={frames[0]} width={width} height={height} cellHeight={panel.options.cellHeight} fieldConfig={panel.fieldConfig}
      enableVirtualization={false} theme={theme} structureRev={1} sortBy={panel.options.sortBy}
    />
  );
}

function Text({ panel }) {
  return <div>{panel.options.content}</div>;
}
