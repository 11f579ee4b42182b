// Pods: which are in trouble, how soon new ones are reachable, and what their nodes have to do with it.
import { anyOf, dashboard, families, labelValues, line, nodes, protocols, section } from './frame.js';
import { FEW, graph, LOSS, NONE, stack, stat, table, TO_NODE, type Limit } from './panels.js';
import { classicQuantile, GRAPH, loss, NOW, orZero, quantile, rate } from './promql.js';

const namespaces = anyOf(
  labelValues('namespace', 'Namespace in trouble', 'podsonar_unhealthy_target{cluster=~"$cluster"}', 'destination_namespace'),
);

const PROBES = 'cluster=~"$cluster",kind="pod",protocol=~"$protocol",family=~"$family",destination=~"$node"';
/** Of metrics that name no destination: what the agents of the chosen nodes say. */
const SAID = 'cluster=~"$cluster",kind="pod",protocol=~"$protocol",family=~"$family",source=~"$node"';
const TROUBLE =
  'cluster=~"$cluster",destination=~"$node",destination_namespace=~"$namespace",destination_pod!="",protocol=~"$protocol",family=~"$family"';
const SLOW: Limit[] = [['green', 0], ['yellow', 5], ['orange', 10], ['red', 30]];

const distinct = (matchers: string) =>
  orZero(`count(group by (destination_namespace, destination_pod, destination_ip) (podsonar_unhealthy_target{${matchers}}))`);

const now = section(
  'Now',
  line(
    4,
    stat(
      { title: 'Pods in trouble', description: 'Pods that at least one agent calls in trouble, each counted once.', unit: 'short', limits: NONE },
      distinct(TROUBLE),
    ),
    stat(
      {
        title: 'Never reachable',
        description: 'Pods that have answered their own node for a minute, and never an agent elsewhere: a network policy, or a route that is missing.',
        unit: 'short',
        limits: NONE,
      },
      distinct(`${TROUBLE},state="never_reachable"`),
    ),
    stat(
      {
        title: 'Not named',
        description: 'Targets in trouble beyond the 20 that each agent names, of all kinds.',
        unit: 'short',
        limits: FEW,
      },
      'sum(podsonar_unhealthy_targets_overflow{cluster=~"$cluster"})',
    ),
    stat(
      {
        title: 'Loss to pods',
        description: 'Share of probes to pods that were lost or unreachable over the last 5 minutes.',
        unit: 'percentunit',
        limits: LOSS,
      },
      loss(PROBES, '', NOW),
    ),
    stat(
      {
        title: 'First reply of new pods, p90',
        description: 'From a pod running with an address to its first answer at an observer, of the last hour\'s new pods. It includes the time until the observer learns of the pod, some seconds.',
        unit: 's',
        limits: SLOW,
      },
      classicQuantile(0.9, 'podsonar_first_reply_seconds', SAID, '', '1h'),
    ),
    stat(
      {
        title: 'New pods without a reply',
        description: 'In the last hour: new pods that an observer did not reach for a minute after they ran. Each observer counts for itself.',
        unit: 'short',
        limits: FEW,
      },
      orZero(`sum(increase(podsonar_first_reply_timeouts_total{${SAID}}[1h]))`),
    ),
  ),
);

const trouble = section(
  'In trouble',
  line(
    10,
    table(
      {
        title: 'Pods in trouble',
        description: 'silent: no answer. listener: the application does not accept connections, the network is fine. tcp_filtered, icmp_filtered: the other protocol is answered. never_reachable: it answers its own node only. One observer alone may have the fault itself.',
        unit: 'short',
      },
      [
        { from: 'destination_namespace', title: 'Namespace' },
        { from: 'destination_workload', title: 'Workload' },
        { from: 'destination_pod', title: 'Pod' },
        { from: 'destination_ip', title: 'Address' },
        { from: 'destination', title: 'Node', link: TO_NODE },
        { from: 'protocol', title: 'Protocol' },
        { from: 'state', title: 'State' },
        { from: 'Value', title: 'Observers', limits: NONE },
      ],
      [
        `sum by (destination_namespace, destination_workload, destination_pod, destination_ip, destination, protocol, state) (podsonar_unhealthy_target{${TROUBLE}})`,
      ],
      'Observers',
    ),
  ),
  line(
    9,
    graph(
      {
        title: 'Pods in trouble by workload',
        description: 'Each pod counted once. A whole workload at once is its own doing or a policy; pods of one node are that node\'s.',
        unit: 'short',
      },
      [
        `count by (destination_namespace, destination_workload) (group by (destination_namespace, destination_workload, destination_pod) (podsonar_unhealthy_target{${TROUBLE}}))`,
        '{{destination_namespace}} {{destination_workload}}',
      ],
    ),
    graph(
      { title: 'Pods in trouble by node', description: 'Each pod counted once, by the node on which it runs.', unit: 'short' },
      [
        `count by (destination) (group by (destination, destination_namespace, destination_pod) (podsonar_unhealthy_target{${TROUBLE}}))`,
        '{{destination}}',
      ],
    ),
  ),
);

const states = section(
  'All pods',
  line(
    9,
    stack(
      {
        title: 'Pods by state',
        description: 'As their observers see them: a pod counts once for each agent that probes it. never_answered is no trouble: nobody ever had an answer of it.',
        unit: 'short',
      },
      ['sum by (state) (podsonar_targets{cluster=~"$cluster",kind="pod"}) > 0', '{{state}}'],
    ),
    stack(
      {
        title: 'Results by protocol',
        description: 'reset: a closed port answered, so the pod is reached. listener: the application is silent, the network is not.',
        unit: 'pps',
      },
      [rate('podsonar_probes_total', PROBES, 'protocol, result', GRAPH), '{{protocol}} {{result}}'],
    ),
  ),
);

const paths = section(
  'On the way to pods',
  line(
    9,
    graph(
      { title: 'Loss by node and protocol', description: 'To the pods of each node. Only TCP: a filter or the port. Both: the pod or its node.', unit: 'percentunit' },
      [loss(PROBES, 'destination, protocol', GRAPH), '{{destination}} {{protocol}}'],
    ),
    graph(
      {
        title: 'Loss of the worst pods',
        description: 'One of a hundred windows of a pod (a minute each) lost a larger share than this.',
        unit: 'percentunit',
      },
      [classicQuantile(0.99, 'podsonar_loss_ratio', SAID, 'protocol', GRAPH), 'p99 {{protocol}}'],
    ),
  ),
  line(
    9,
    graph(
      {
        title: 'Round trip by protocol',
        description: 'ICMP is answered by the pod\'s kernel, a SYN by its TCP stack.',
        unit: 's',
      },
      [quantile(0.5, 'podsonar_rtt_seconds', PROBES, 'protocol', GRAPH), 'median {{protocol}}'],
      [quantile(0.99, 'podsonar_rtt_seconds', PROBES, 'protocol', GRAPH), 'p99 {{protocol}}'],
    ),
    graph(
      {
        title: 'First reply of new pods',
        description: 'From running with an address to the first answer at an observer.',
        unit: 's',
      },
      [classicQuantile(0.5, 'podsonar_first_reply_seconds', SAID, '', GRAPH), 'median'],
      [classicQuantile(0.9, 'podsonar_first_reply_seconds', SAID, '', GRAPH), 'p90'],
    ),
  ),
);

export const workload = dashboard(
  'workload',
  'pods and workloads',
  'Which pods are in trouble, by whom that is seen, how soon new pods are reachable, and what is lost on the way to pods.',
  [nodes, namespaces, protocols, families],
  [now, trouble, states, paths],
);
