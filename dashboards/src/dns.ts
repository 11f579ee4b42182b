// Names: which server is slow or wrong, and for whom.
import { anyOf, dashboard, labelValues, line, nodes, section, zones } from './frame.js';
import { ALL, graph, LOSS, NONE, stack, stat, table, type Limit } from './panels.js';
import { GRAPH, NOW, orZero, quantile, rate, share } from './promql.js';

const servers = anyOf(labelValues('server', 'Server', 'podsonar_dns_queries_total{cluster=~"$cluster"}', 'server'));

const ASKED = 'cluster=~"$cluster",source_zone=~"$zone",source=~"$node",server=~"$server"';
/** A bare pod name must not resolve: what is right for it is wrong for all others. */
const NAMES = `${ASKED},name!="bare_pod"`;
const RIGHT = 'result="noerror"';
const FAILED = 'result=~"servfail|refused|other_rcode|malformed|timeout|unreachable"';
const QUERIES = 'podsonar_dns_queries_total';
const DURATION = 'podsonar_dns_duration_seconds';
const SLOW: Limit[] = [['green', 0], ['yellow', 0.02], ['orange', 0.1], ['red', 0.5]];

const now = section(
  'Now',
  line(
    4,
    stat(
      {
        title: 'Configured names answered right',
        description: 'Share of questions about configured names that got the right addresses, over the last 5 minutes.',
        unit: 'percentunit',
        limits: ALL,
      },
      share(QUERIES, RIGHT, `${ASKED},name!~"pod|bare_pod"`, '', NOW),
    ),
    stat(
      {
        title: 'Pods\' names answered right',
        description: 'Share of questions about pods\' names that got exactly the pod\'s address. Nothing of it is right where the name server has no pods\' names (CoreDNS with "pods disabled"): set dns.pods to false there.',
        unit: 'percentunit',
        limits: ALL,
      },
      share(QUERIES, RIGHT, `${ASKED},name="pod"`, '', NOW),
    ),
    stat(
      {
        title: 'Servers fail',
        description: 'Share of questions that a server did not answer, or not as a server should: timeout, servfail, refused, unreachable, malformed.',
        unit: 'percentunit',
        limits: LOSS,
      },
      share(QUERIES, FAILED, ASKED, '', NOW),
    ),
    stat(
      {
        title: 'Wrong addresses',
        description: 'Questions of the last 5 minutes that were answered with addresses other than the expected ones.',
        unit: 'short',
        limits: NONE,
      },
      orZero(`sum(increase(${QUERIES}{${ASKED},result="mismatch"}[${NOW}]))`),
    ),
    stat(
      {
        title: 'Bare pod names that resolve',
        description: 'A pod\'s bare name is no name: if it resolves, a search domain has a wildcard, or a Service has a pod\'s name. Questions of the last hour.',
        unit: 'short',
        limits: NONE,
      },
      orZero(`sum(increase(${QUERIES}{${ASKED},name="bare_pod",result="noerror"}[1h]))`),
    ),
    stat(
      {
        title: 'Slowest server, p99',
        description: 'One of a hundred answers of the slowest server took longer, by the stamps of the kernel, over the last 5 minutes.',
        unit: 's',
        limits: SLOW,
      },
      `max(${quantile(0.99, DURATION, ASKED, 'server', NOW)})`,
    ),
  ),
);

const serversSection = section(
  'Servers',
  line(
    9,
    graph(
      { title: 'Duration by server', description: 'Answers by UDP, whatever they say, between stamps of the kernel.', unit: 's' },
      [quantile(0.5, DURATION, ASKED, 'server', GRAPH), 'median {{server}}'],
      [quantile(0.99, DURATION, ASKED, 'server', GRAPH), 'p99 {{server}}'],
    ),
    graph(
      {
        title: 'Failures by server',
        description: 'Share of questions that the server did not answer, or not as a server should.',
        unit: 'percentunit',
      },
      [share(QUERIES, FAILED, ASKED, 'server', GRAPH), '{{server}}'],
    ),
  ),
  line(
    9,
    graph(
      {
        title: 'Failures by node',
        description: 'The same by who asks. One node alone: its way to the server. All: the server.',
        unit: 'percentunit',
      },
      [share(QUERIES, FAILED, ASKED, 'source', GRAPH), '{{source}}'],
    ),
    graph(
      { title: 'Duration by zone, p99', description: 'One of a hundred answers took longer, by the zone that asks.', unit: 's' },
      [quantile(0.99, DURATION, ASKED, 'source_zone', GRAPH), '{{source_zone}}'],
    ),
  ),
);

const names = section(
  'Names',
  line(
    9,
    table(
      {
        title: 'Names and servers',
        description: 'Share of right answers over the last 5 minutes, and questions a second. "pod" is all pods\' names together.',
        unit: 'short',
      },
      [
        { from: 'name', title: 'Name' },
        { from: 'server', title: 'Server' },
        { from: 'Value #A', title: 'Right', unit: 'percentunit', limits: ALL },
        { from: 'Value #B', title: 'Questions', unit: 'reqps' },
      ],
      [share(QUERIES, RIGHT, NAMES, 'name, server', NOW) + ' or\n0 * ' + rate(QUERIES, NAMES, 'name, server', NOW), rate(QUERIES, NAMES, 'name, server', NOW)],
      'Questions',
    ),
    stack(
      {
        title: 'Configured names by result',
        description: 'By what became of the whole search. mismatch: other addresses than expected.',
        unit: 'reqps',
      },
      [rate(QUERIES, `${ASKED},name!~"pod|bare_pod"`, 'result', GRAPH), '{{result}}'],
    ),
  ),
  line(
    9,
    stack(
      {
        title: 'Pods\' names by result',
        description: 'noerror is right: exactly the address of the pod. mismatch is any other, nxdomain a server without pods\' names.',
        unit: 'reqps',
      },
      [rate(QUERIES, `${ASKED},name="pod"`, 'result', GRAPH), '{{result}}'],
    ),
    stack(
      {
        title: 'Bare pod names by result',
        description: 'nxdomain and nodata are right. noerror is the fault.',
        unit: 'reqps',
      },
      [rate(QUERIES, `${ASKED},name="bare_pod"`, 'result', GRAPH), '{{result}}'],
    ),
  ),
);

const wire = section(
  'On the wire',
  line(
    8,
    stack(
      {
        title: 'Single questions',
        description: 'Names as written, and with a domain of the search list behind them: what a search costs the server.',
        unit: 'reqps',
      },
      [rate('podsonar_dns_exchanges_total', ASKED, 'form, result', GRAPH), '{{form}} {{result}}'],
    ),
    graph(
      {
        title: 'Packets passed over',
        description: 'While waiting for an answer: late ones, and those that answer something else. wrong_id and other_address in numbers are forged answers, or a broken translation of addresses.',
        unit: 'pps',
      },
      [rate('podsonar_dns_ignored_packets_total', ASKED, 'server, reason', GRAPH), '{{server}} {{reason}}'],
    ),
  ),
);

export const dns = dashboard(
  'dns',
  'DNS',
  'Which name server is slow, fails or tells wrong addresses, and for whom.',
  [zones, nodes, servers],
  [now, serversSection, names, wire],
);
