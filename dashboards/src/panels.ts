// Panels as these dashboards use them: single numbers, lines over time, tables and matrices.
import {
  BigValueColorMode,
  BigValueGraphMode,
  BigValueJustifyMode,
  BigValueTextMode,
  FieldColorModeId,
  GraphDrawStyle,
  LegendDisplayMode,
  PercentChangeColorMode,
  SortOrder,
  StackingMode,
  TableCellBackgroundDisplayMode,
  TableCellDisplayMode,
  ThresholdsMode,
  TooltipDisplayMode,
  VisibilityMode,
  VizOrientation,
  type DataTransformerConfig,
  type FieldConfig,
  type FieldConfigSource,
  type Panel,
  type TableColoredBackgroundCellOptions,
  type ThresholdsConfig,
} from '@grafana/schema';
import type * as Stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as Table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as TimeSeries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
import { SOURCE } from './frame.js';

/** What a panel says of itself. */
export interface About {
  title: string;
  /** What it shows, what is normal, and where to look next. */
  description: string;
  /** One of Grafana's units. */
  unit: string;
  /** From which value on it is coloured how; without, nothing is judged. */
  limits?: Limit[];
}

/** A colour from a value on; the first holds from minus infinity on. */
export type Limit = [color: string, from: number];

/** Shares of probes or questions that fail. */
export const LOSS: Limit[] = [['green', 0], ['yellow', 0.001], ['orange', 0.01], ['red', 0.05]];
/** Shares that should be all. */
export const ALL: Limit[] = [['red', 0], ['orange', 0.99], ['yellow', 0.999], ['green', 0.9999]];
/** Numbers of things that should not be. */
export const NONE: Limit[] = [['green', 0], ['red', 1]];
/** The same for what deserves a look, not a fright. */
export const FEW: Limit[] = [['green', 0], ['orange', 1]];

const NEUTRAL: Limit[] = [['text', 0]];

function thresholds(limits: Limit[]): ThresholdsConfig {
  const steps = limits.map(([color, value], place) => ({ color, value: place === 0 ? null : value }));
  return { mode: ThresholdsMode.Absolute, steps };
}

/** A query and how its series are called. */
export type Query = [expression: string, legend: string];

function targets(queries: Query[], how: Record<string, unknown>): Array<Record<string, unknown>> {
  return queries.map(([expr, legendFormat], place) => ({
    refId: String.fromCharCode('A'.charCodeAt(0) + place),
    datasource: SOURCE,
    editorMode: 'code',
    expr,
    legendFormat,
    ...how,
  }));
}

/** The panel as a dashboard takes it; what is particular to its kind was checked before. */
function panel<O extends object, F extends object>(
  type: string,
  { title, description }: About,
  options: O,
  fieldConfig: FieldConfigSource<F>,
  rest: Pick<Panel, 'targets' | 'transformations'>,
): Panel {
  return {
    type,
    title,
    description,
    datasource: SOURCE,
    options: options as Record<string, unknown>,
    fieldConfig: fieldConfig as FieldConfigSource,
    ...rest,
  };
}

/** One number, judged by its limits. */
export function stat(about: About, expression: string): Panel {
  const options: Stat.Options = {
    colorMode: about.limits ? BigValueColorMode.Background : BigValueColorMode.Value,
    graphMode: BigValueGraphMode.None,
    justifyMode: BigValueJustifyMode.Center,
    orientation: VizOrientation.Auto,
    percentChangeColorMode: PercentChangeColorMode.Standard,
    reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    showPercentChange: false,
    textMode: BigValueTextMode.Value,
    wideLayout: true,
  };
  const defaults: FieldConfig = {
    unit: about.unit,
    noValue: 'no data',
    color: { mode: FieldColorModeId.Thresholds },
    thresholds: thresholds(about.limits ?? NEUTRAL),
  };
  return panel('stat', about, options, { defaults, overrides: [] }, {
    targets: targets([[expression, '']], { instant: true, range: false }),
  });
}

/** Lines over time, the largest first in the legend. */
export function graph(about: About, ...queries: Query[]): Panel {
  return timeseries(about, queries, { drawStyle: GraphDrawStyle.Line, lineWidth: 1, fillOpacity: 5 });
}

/** Areas over time that add up to a whole. */
export function stack(about: About, ...queries: Query[]): Panel {
  return timeseries(about, queries, {
    drawStyle: GraphDrawStyle.Line,
    lineWidth: 1,
    fillOpacity: 40,
    stacking: { mode: StackingMode.Normal, group: 'A' },
  });
}

function timeseries(about: About, queries: Query[], custom: TimeSeries.FieldConfig): Panel {
  const options: TimeSeries.Options = {
    legend: {
      calcs: ['max', 'lastNotNull'],
      displayMode: LegendDisplayMode.Table,
      placement: 'right',
      showLegend: true,
      sortBy: 'Max',
      sortDesc: true,
    },
    tooltip: { mode: TooltipDisplayMode.Multi, sort: SortOrder.Descending },
  };
  const defaults: FieldConfig<TimeSeries.FieldConfig> = {
    unit: about.unit,
    min: 0,
    color: { mode: FieldColorModeId.PaletteClassicByName },
    custom: { ...custom, showPoints: VisibilityMode.Never, spanNulls: false },
  };
  return panel('timeseries', about, options, { defaults, overrides: [] }, {
    targets: targets(queries, { instant: false, range: true }),
  });
}

/** A column of a table: the label or query it comes from, its heading, and where a click on it leads. */
export interface Column {
  from: string;
  title: string;
  unit?: string;
  limits?: Limit[];
  link?: Link;
}

/** Where a click on a cell leads. */
export interface Link {
  title: string;
  url: string;
}

/** Keeps the data source, the cluster and the time when a link leads to another dashboard. */
const SAME = '${datasource:queryparam}&${cluster:queryparam}&${__url_time_range}';

/** To the dashboard of the node in the cell. */
export const TO_NODE: Link = { title: 'This node', url: `/d/podsonar-node?var-node=\${__value.text}&${SAME}` };

/** What is so now, one row for each combination of labels; several queries are joined by the labels they share. */
export function table(about: About, columns: Column[], expressions: string[], sortBy: string): Panel {
  if (!columns.some(({ title }) => title === sortBy)) throw new Error(`${about.title}: it has no column ${sortBy} to sort by`);
  const by = Object.fromEntries(columns.map(({ from }, place) => [from, place]));
  const names = Object.fromEntries(columns.map(({ from, title }) => [from, title]));
  const transformations: DataTransformerConfig[] = [
    ...(expressions.length > 1 ? [{ id: 'merge', options: {} }] : []),
    // Only the columns that are named stay, in their order.
    { id: 'filterFieldsByName', options: { include: { names: columns.map(({ from }) => from) } } },
    { id: 'organize', options: { indexByName: by, renameByName: names, excludeByName: {} } },
  ];
  const options: Table.Options = { frameIndex: 0, showHeader: true, sortBy: [{ displayName: sortBy, desc: true }] };
  const overrides = columns.flatMap(({ title, unit, limits, link }) => {
    const properties: Array<{ id: string; value: unknown }> = [];
    if (unit) properties.push({ id: 'unit', value: unit });
    if (limits) properties.push({ id: 'thresholds', value: thresholds(limits) }, { id: 'custom.cellOptions', value: COLOURED });
    if (link) properties.push({ id: 'links', value: [{ ...link, targetBlank: false }] });
    return properties.length > 0 ? [{ matcher: { id: 'byName', options: title }, properties }] : [];
  });
  const defaults: FieldConfig<Table.FieldConfig> = {
    unit: about.unit,
    noValue: '',
    custom: { align: 'auto', cellOptions: { type: TableCellDisplayMode.Auto }, inspect: false, filterable: true },
    thresholds: thresholds(NEUTRAL),
  };
  return panel('table', about, options, { defaults, overrides }, {
    targets: targets(expressions.map((expression) => [expression, '']), { instant: true, range: false, format: 'table' }),
    transformations,
  });
}

const COLOURED: TableColoredBackgroundCellOptions = { type: TableCellDisplayMode.ColorBackground, mode: TableCellBackgroundDisplayMode.Basic };

/** The heading of a matrix' first column. */
const CORNER = 'from ╲ to';

/**
 * Sources as rows, destinations as columns. With limits each cell is judged; without, the shade tells small from large.
 * @param ends the labels of both ends
 */
export function matrix(about: About, ends: [source: string, destination: string], expression: string, link?: Link): Panel {
  const [source, destination] = ends;
  const transformations: DataTransformerConfig[] = [
    { id: 'sortBy', options: { fields: {}, sort: [{ field: destination }] } },
    {
      id: 'groupingToMatrix',
      options: { rowField: source, columnField: destination, valueField: 'Value', emptyValue: 'null' },
    },
    // Grafana's own heading for the first column is the names of both labels.
    { id: 'organize', options: { renameByName: { [`${source}\\${destination}`]: CORNER }, indexByName: {}, excludeByName: {} } },
  ];
  const options: Table.Options = { frameIndex: 0, showHeader: true, sortBy: [{ displayName: CORNER, desc: false }] };
  const defaults: FieldConfig<Table.FieldConfig> = {
    unit: about.unit,
    noValue: '',
    color: { mode: about.limits ? FieldColorModeId.Thresholds : FieldColorModeId.ContinuousBlues },
    thresholds: thresholds(about.limits ?? NEUTRAL),
    custom: { align: 'center', cellOptions: COLOURED, inspect: false, minWidth: 60 },
  };
  const heading = [
    { id: 'custom.cellOptions', value: { type: TableCellDisplayMode.Auto } },
    { id: 'custom.align', value: 'left' },
    ...(link ? [{ id: 'links', value: [{ ...link, targetBlank: false }] }] : []),
  ];
  const overrides = [{ matcher: { id: 'byName', options: CORNER }, properties: heading }];
  return panel('table', about, options, { defaults, overrides }, {
    targets: targets([[expression, '']], { instant: true, range: false, format: 'table' }),
    transformations,
  });
}
