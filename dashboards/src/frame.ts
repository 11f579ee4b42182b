// What all dashboards have in common: variables, links to each other, and panels laid out in lines on a grid.
import {
  DashboardCursorSync,
  VariableHide,
  VariableRefresh,
  VariableSort,
  type Dashboard,
  type Panel,
  type RowPanel,
  type VariableModel,
} from '@grafana/schema';

/** The data source that the person who looks has chosen. */
export const SOURCE = { type: 'prometheus', uid: '${datasource}' };

/** Panels side by side, as wide as each other, so many grid units high. */
export interface Line {
  height: number;
  panels: Panel[];
}

/** Lines under a heading. */
export interface Section {
  title: string;
  lines: Line[];
}

export const line = (height: number, ...panels: Panel[]): Line => ({ height, panels });
export const section = (title: string, ...lines: Line[]): Section => ({ title, lines });

/** A dashboard; the most important section comes first. */
export function dashboard(
  name: string,
  title: string,
  description: string,
  variables: VariableModel[],
  sections: Section[],
): Dashboard {
  return {
    uid: `podsonar-${name}`,
    title: `podsonar / ${title}`,
    description,
    tags: ['podsonar'],
    schemaVersion: 42,
    editable: true,
    graphTooltip: DashboardCursorSync.Crosshair,
    refresh: '30s',
    time: { from: 'now-1h', to: 'now' },
    timezone: 'browser',
    links: [
      {
        type: 'dashboards',
        tags: ['podsonar'],
        title: 'podsonar',
        tooltip: '',
        icon: 'external link',
        asDropdown: false,
        includeVars: true,
        keepTime: true,
        targetBlank: false,
      },
    ],
    templating: { list: [datasource, cluster, ...variables] },
    panels: placed(sections),
  };
}

const WIDTH = 24;

/** Headings, and below each its lines; numbers are given in reading order. */
function placed(sections: Section[]): Array<Panel | RowPanel> {
  const panels: Array<Panel | RowPanel> = [];
  let y = 0;
  for (const { title, lines } of sections) {
    const gridPos = { x: 0, y, w: WIDTH, h: 1 };
    panels.push({ id: panels.length + 1, type: 'row', title, collapsed: false, gridPos, panels: [] });
    y += 1;
    for (const { height, panels: side } of lines) {
      const w = WIDTH / side.length;
      side.forEach((panel, place) => {
        panels.push({ id: panels.length + 1, ...panel, gridPos: { x: place * w, y, w, h: height } });
      });
      y += height;
    }
  }
  return panels;
}

const datasource: VariableModel = {
  type: 'datasource',
  name: 'datasource',
  label: 'Data source',
  query: 'prometheus',
  hide: VariableHide.dontHide,
  refresh: VariableRefresh.onDashboardLoad,
};

/** May have no value at all: a Prometheus of one cluster has no such label. */
const cluster: VariableModel = {
  ...labelValues('cluster', 'Cluster', 'podsonar_build_info', 'cluster'),
  includeAll: true,
  allValue: '.*',
  current: { text: 'All', value: '$__all' },
};

/** A variable with the values that a label has; one of them, or several. */
export function labelValues(name: string, label: string, metric: string, of: string): VariableModel {
  return {
    type: 'query',
    name,
    label,
    datasource: SOURCE,
    query: { query: `label_values(${metric}, ${of})`, refId: `variable-${name}` },
    refresh: VariableRefresh.onTimeRangeChanged,
    sort: VariableSort.naturalAsc,
    hide: VariableHide.dontHide,
  };
}

/** The same where any number of values can be chosen, at first all. */
export function anyOf(variable: VariableModel): VariableModel {
  return { ...variable, multi: true, includeAll: true, allValue: '.*', current: { text: 'All', value: '$__all' } };
}

export const zones = anyOf(labelValues('zone', 'Zone', 'podsonar_build_info{cluster=~"$cluster"}', 'source_zone'));
export const nodes = anyOf(labelValues('node', 'Node', 'podsonar_build_info{cluster=~"$cluster"}', 'source'));
export const oneNode = labelValues('node', 'Node', 'podsonar_build_info{cluster=~"$cluster"}', 'source');
export const protocols = choice('protocol', 'Protocol', [['ICMP', 'icmp'], ['TCP', 'tcp'], ['connect', 'connect']]);
export const families = choice('family', 'IP family', [['IPv4', '4'], ['IPv6', '6']]);

/** A variable with fixed values, of which any number can be chosen, at first all. */
export function choice(name: string, label: string, values: Array<[string, string]>): VariableModel {
  const options = values.map(([text, value]) => ({ text, value, selected: false }));
  const query = values.map(([text, value]) => `${text} : ${value}`).join(', ');
  return anyOf({ type: 'custom', name, label, query, options, hide: VariableHide.dontHide });
}
