"""What the modes run: loops that do nothing but call the API, and whole programs."""
import os
import random
import shutil
import subprocess


class Loop:
    """Tells its own nanoseconds per call. `argv(calls)`: about so many calls over all threads."""

    program = False

    def __init__(self, name, path, argv):
        self.name, self.path, self.make_argv = name, path, argv
        self.missing = None if os.path.exists(path) else f"{path} is not built"
        self.env = {}

    def prepare(self, folder, scale):
        pass

    def argv(self, calls):
        return [self.path, *map(str, self.make_argv(calls))]


class Program:
    """A real program; what counts is the whole run. scale 1: a run takes about a second."""

    program = True

    def __init__(self, name, find, make, env=None):
        self.name, self.make, self.env = name, make, env or {}
        self.path = find()
        self.missing = None if self.path else f"{name} is not installed"
        self.command = None

    def prepare(self, folder, scale):
        self.command = self.make(self.path, folder, scale)

    def argv(self, calls):
        return self.command


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


# An order book: bulk load, indexes, joins, sorting, updates, deletes.
SQL = """
pragma journal_mode = memory;
create table customer (id integer primary key, name text, town text);
create table sale (id integer primary key, customer integer, item text, price real, day integer);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < {customers})
insert into customer select i, printf('customer %06d', i * 7919 % 1000003),
  'town ' || (i % 211) from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < {sales})
insert into sale select i, 1 + i * 31 % {customers}, 'item number ' || (i * 7919 % 20011),
  (i % 977) * 0.25, i % 365 from n;
commit;
create index sale_by_customer on sale (customer, day);
create index sale_by_item on sale (item);
select town, count(*), sum(price), group_concat(distinct item) from customer
  join sale on sale.customer = customer.id where day < 40 group by town order by 3 desc limit 10;
select item, avg(price) from sale where item like 'item number 1%' group by item
  order by 2, 1 limit 10;
select count(*) from (select distinct customer, item from sale);
update sale set price = price * 1.1, item = item || ' (old)' where day between 100 and 140;
delete from sale where day > 340;
{lookups}
vacuum;
select count(*), round(sum(price), 2), min(item), max(item) from sale;
"""


def make_sqlite(path, folder, scale):
    sales = max(2000, int(200_000 * scale))
    chance = random.Random(7)
    lookups = "\n".join(
        f"select name, sum(price) from customer join sale on sale.customer = customer.id "
        f"where customer.id = {chance.randrange(1, max(2, sales // 10))} group by name;"
        for _ in range(int(4000 * scale) + 10))
    script = write(folder, "book.sql", SQL.format(sales=sales, customers=sales // 10,
                                                  lookups=lookups))
    return [path, "-batch", "-init", script, ":memory:", ".quit"]


# Headers that are full of templates, and enough use of them to instantiate a good part.
FAT = """
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <regex>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>
{boost}
template <int N> struct Step {{
  std::map<std::string, std::vector<int>> index;
  std::unordered_map<int, std::function<int(int)>> calls;
  int run(int x) {{
    calls[N] = [x](int y) {{ return x * N + y; }};
    index[std::to_string(N)].push_back(calls[N](x));
    std::sort(index.begin()->second.begin(), index.begin()->second.end(),
              [](int a, int b) {{ return (a ^ N) < (b ^ N); }});
    return index.size() + Step<N - 1>().run(x);
  }}
}};
template <> struct Step<0> {{ int run(int x) {{ return x; }} }};
int main(int argc, char** argv) {{
  std::regex word("([a-z]+)=(\\\\d+)");
  std::smatch found;
  std::string line = argc > 1 ? argv[1] : "a=1";
  if (std::regex_search(line, found, word)) std::cout << found[1] << Step<{depth}>().run(argc);
}}
"""
BOOST = ["boost/program_options.hpp"]


def find_cc1plus():
    compiler = shutil.which("g++")
    if not compiler:
        return None
    path = subprocess.run([compiler, "-print-prog-name=cc1plus"], stdout=subprocess.PIPE, text=True,
                          check=False).stdout.strip()
    return path if os.path.isabs(path) else None


def make_cc1plus(path, folder, scale):
    """cc1plus alone, without the driver, on a unit that is already preprocessed."""
    boost = [h for h in BOOST if os.path.exists(os.path.join("/usr/include", h))]
    source = write(folder, "fat.cc", FAT.format(
        boost="\n".join(f"#include <{h}>" for h in boost), depth=max(1, int(8 * scale))))
    unit = os.path.join(folder, "fat.ii")
    subprocess.run(["g++", "-std=c++20", "-E", source, "-o", unit], check=True)
    return [path, "-quiet", "-fpreprocessed", "-std=c++20", "-fsyntax-only", unit]


# A translator's work on Python's own library (trees, tables, code), then a data job on text: small
# objects by the million, of many kinds and lives.
PYTHON = """
import ast, collections, glob, json, os, re, sysconfig
groups = collections.defaultdict(list)
for path in sorted(glob.glob(os.path.join(sysconfig.get_path("stdlib"), "[a-t]*.py")))[:{files}]:
    with open(path, encoding="utf-8", errors="replace") as f:
        text = f.read()
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            groups[node.name].append(ast.unparse(node))
    compile(tree, path, "exec")
    words = collections.Counter(re.findall(r"[A-Za-z_]+", text))
    groups["/words"].append(json.dumps(words.most_common()))
rows = [json.loads(words) for words in groups["/words"]]
total = collections.Counter()
for row in rows:
    for word, count in row:
        total[word] += count
print(len(groups), sorted(total.items(), key=lambda w: (-w[1], w[0]))[:3])
"""


def find_python():
    # The system's own: one that a version manager built or wrapped says less about others.
    candidates = ("/usr/bin/python3", shutil.which("python3"))
    return next((p for p in candidates if p and os.path.exists(p)), None)


def make_python(path, folder, scale):
    script = write(folder, "library.py", PYTHON.format(files=max(2, int(45 * scale))))
    return [path, "-s", script]


def all_workloads(build):
    bench = os.path.join(build, "tests/bench")
    churn, handover = os.path.join(bench, "churn"), os.path.join(bench, "handover")

    def churning(threads):
        return lambda calls: (threads, max(1000, calls // max(threads, 1)))

    def handing(batch):
        return lambda calls: (batch, max(1000, calls // 2))

    loops = [Loop("churn, never a second thread", churn, churning(0)),
             Loop("churn, 1 thread", churn, churning(1)),
             Loop("churn, 2 threads", churn, churning(2)),
             Loop("churn, 4 threads", churn, churning(4)),
             Loop("hand-over, one by one", handover, handing(1)),
             Loop("hand-over, batches of 64", handover, handing(64))]
    programs = [Program("sqlite3", lambda: shutil.which("sqlite3"), make_sqlite),
                Program("cc1plus", find_cc1plus, make_cc1plus),
                Program("python3", find_python, make_python),
                Program("python3, PYTHONMALLOC=malloc", find_python, make_python,
                        env={"PYTHONMALLOC": "malloc"})]
    return [*loops, *programs]
