// Writes the dashboards into a folder, or says which of those in it are not fresh.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { agents } from './agents.js';
import { dns } from './dns.js';
import { node } from './node.js';
import { overview } from './overview.js';
import { problems } from './check.js';
import { workload } from './workload.js';

const [command, folder, golden] = process.argv.slice(2);
if (!folder || !golden || !['check', 'write'].includes(command ?? '')) {
  console.error('main.js check|write FOLDER GOLDEN_SCRAPE');
  process.exit(2);
}

const wrong = problems([overview, node, workload, dns, agents], readFileSync(golden, 'utf8'));
for (const [name, dashboard] of Object.entries({ overview, node, workload, dns, agents })) {
  const file = join(folder, `${name}.json`);
  const text = `${JSON.stringify(dashboard, null, 2)}\n`;
  if (command === 'write') {
    writeFileSync(file, text);
  } else if (!existsSync(file) || readFileSync(file, 'utf8') !== text) {
    wrong.push(`${name}.json is not what dashboards/src makes: run "make dashboards-write"`);
  }
}
for (const problem of wrong) console.error(problem);
process.exitCode = wrong.length > 0 ? 1 : 0;
