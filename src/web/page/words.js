// The words of the page, in both languages, and which of them is spoken.

const ENGLISH = {
  "language": "Language", "theme": "Theme", "theme.auto": "System", "theme.light": "Light", "theme.dark": "Dark",
  "line.wait": "Connecting…", "line.live": "Live", "line.lost": "Not connected; trying again", "line.old": "Last heard {ago}",
  "token": "Token", "token.forget": "Forget token", "token.where": "Kept in this tab alone, until it is closed.",
  "token.title": "Token needed", "token.text": "Whoever changes something must show the service's token.",
  "token.wrong": "This is not the service's token.", "token.forgotten": "The token is forgotten.",
  "yes": "Go on", "no": "Never mind", "times": "Times are those of", "metrics": "Metrics",

  "verdict.complete": "Everything is complete", "verdict.trouble": { one: "1 release needs attention", other: "{n} releases need attention" },
  "verdict.runs": { one: "The last run of {sets} failed", other: "The last runs of {sets} failed" },
  "verdict.missing": { one: "1 release is not complete yet", other: "{n} releases are not complete yet" },
  "verdict.starting": "Starting: not every set was looked at yet", "verdict.draining": "Ending: what is under way is finished first",
  "verdict.empty": "There is nothing to mirror yet", "verdict.both": "{a}; {b}",
  "tile.complete": "Complete", "tile.complete.note": "releases at all targets", "tile.trouble": "Need attention", "tile.trouble.note": "failed, changed, withdrawn",
  "tile.now": "Now", "tile.idle": "Idle", "tile.next": "Next run", "tile.none": "None planned", "tile.running": { one: "1 run", other: "{n} runs" },
  "tile.of": "{n} of {all}", "tile.waits": { one: "1 waits", other: "{n} wait" },

  "set.targets": "Targets", "set.schedule": "Schedule", "set.next": "Next run", "set.success": "Last success", "set.last": "Last run",
  "never": "never", "none": "none", "now": "now", "set.actions": "Start a run of {set}",
  "purpose.sync": "Sync", "purpose.scrub": "Scrub", "purpose.prune": "Prune",
  "start.sync": "Sync now", "start.scrub": "Scrub", "start.prune": "Prune",
  "ask.prune": "Prune {set}?", "ask.prune.text": "It deletes from the targets what the rules do not keep and whose grace period is over.",
  "ask.cancel": "Stop this run?", "ask.cancel.text": "What has arrived stays; the next run goes on from there.",
  "started": "Run {run} will begin", "cancelled": "Run {run} is being stopped", "refused": "Refused:", "unreachable": "The service can't be reached.",

  "phase.looking": "Looking", "phase.fetching": "Fetching", "phase.draining": "Finishing",
  "run.cancel": "Stop", "run.files": "{n} of {all} files", "run.left": "{time} left", "run.left.unknown": "time left unknown",
  "run.all": "The whole run", "run.under": { one: "1 file under way", other: "{n} files under way" },
  "run.unknown": "length unknown", "run.waits": "Waits", "run.beside": "Goes on beside",
  "run.speeds": "Goodput over the last minutes",

  "failed.last": { one: "1 file failed in the last run", other: "{n} files failed in the last run" }, "failed.last.run": "The last run could not be done",
  "failed.files": { one: "1 file failed", other: "{n} files failed" }, "failed.run": "It could not be done",
  "why": "Why:", "note": "Note:", "failed.withheld": { one: "1 pointer stays where it is until the releases of this run are complete", other: "{n} pointers stay where they are until the releases of this run are complete" },
  "failed.more": { one: "and 1 more", other: "and {n} more" },
  "class.unvouched": "Nobody vouches", "class.origin": "Origin", "class.corrupt": "Wrong bytes", "class.store": "Target", "class.spool": "Spool",

  "plan": "Plan", "plan.asking": "Looking…", "plan.title": "What the next run of {set} would do", "plan.close": "Close", "plan.nothing": "Nothing is to be done: all of it is there.",
  "plan.transfer": { one: "1 file to transfer ({size})", other: "{n} files to transfer ({size})" },
  "plan.transfer.unknown": { one: "1 file to transfer ({size} and {unknown} of unknown length)", other: "{n} files to transfer ({size} and {unknown} of unknown length)" },
  "plan.inspect": { one: "1 to look at inside the target", other: "{n} to look at inside the target" }, "plan.sidecars": { one: "1 lacks only sidecars", other: "{n} lack only sidecars" },
  "plan.skip": "{n} in place", "plan.refused": { one: "1 file can't be mirrored", other: "{n} files can't be mirrored" }, "plan.requests": { one: "1 request to write", other: "{n} requests to write" },
  "plan.images": { one: "1 image to bring ({size})", other: "{n} images to bring ({size})" }, "plan.images.skip": { one: "1 image in place", other: "{n} images in place" },
  "plan.images.refused": { one: "1 image can't be mirrored", other: "{n} images can't be mirrored" },
  "plan.releases": { one: "1 release", other: "{n} releases" }, "plan.files": { one: "1 file", other: "{n} files" }, "plan.file": "File", "plan.what": "What and why", "plan.more": { one: "Show 1 more", other: "Show more of {n}" },
  "action.skip": "Stays", "action.sidecars": "Complete", "action.inspect": "Look", "action.transfer": "Transfer",
  "reason.it is missing": "it is missing", "reason.another content is wanted now": "another content is wanted now", "reason.no index tells what it holds": "no index tells what it holds",
  "reason.it is not what was stored: its ETag is another": "it is not what was stored: its ETag is another",

  "releases": "Releases", "releases.filter": "Find a release", "releases.open": "Open all", "releases.close": "Close all",
  "releases.trouble": "Not complete only", "releases.none": "No releases yet.", "releases.nomatch": "No release is like this.",
  "releases.count": { one: "1 release", other: "{n} releases" }, "releases.other": "Other files", "releases.release": "Release", "releases.files": "Files", "releases.size": "Size",
  "releases.missing": { one: "1 file missing", other: "{n} files missing" }, "releases.completed": "complete since {time}",
  "state.complete": "Complete", "state.incomplete": "Incomplete", "state.missing": "Missing", "state.failed": "Failed", "state.changed": "Changed upstream", "state.withdrawn": "Withdrawn", "state.unknown": "Not known",

  "history": "History", "history.older": "Older runs", "history.none": "No run has ended yet.", "history.unread": "The history can't be read:",
  "history.began": "Began", "history.set": "Set", "history.purpose": "Run", "history.end": "End", "history.took": "Took", "history.fetched": "Fetched",
  "history.failed": "Failed",
  "history.transferred": "{n} transferred", "history.skipped": "{n} in place", "history.repaired": "{n} repaired", "history.again": "{size} came twice",
  "history.repeated": "{n} times like this since {since}",
  "history.origins": "From", "history.marked": "Became complete",
  "end.done": "Done", "end.some-failed": "Some failed", "end.failed": "Failed", "end.interrupted": "Stopped", "end.held-by-other": "Held by another",
  "plot.bytes": "Fetched per run", "plot.took": "Duration", "plot.failed": "Failed files", "plot.about": "{title}, last {n} runs: at most {max}, last {last}",
};

const CHINESE = {
  "language": "语言", "theme": "主题", "theme.auto": "跟随系统", "theme.light": "浅色", "theme.dark": "深色",
  "line.wait": "正在连接…", "line.live": "实时", "line.lost": "连接已断开，正在重试", "line.old": "上次更新：{ago}",
  "token": "令牌", "token.forget": "清除令牌", "token.where": "仅保存在此标签页中，关闭后即清除。",
  "token.title": "需要令牌", "token.text": "更改操作需要出示服务的令牌。",
  "token.wrong": "令牌不正确。", "token.forgotten": "令牌已清除。",
  "yes": "继续", "no": "取消", "times": "时间所用时区：", "metrics": "指标",

  "verdict.complete": "全部完整", "verdict.trouble": { other: "{n} 个版本需要处理" },
  "verdict.runs": { other: "{sets} 的上次运行失败" },
  "verdict.missing": { other: "{n} 个版本尚未完整" },
  "verdict.starting": "正在启动：尚有集合未检查", "verdict.draining": "正在退出：先完成进行中的任务",
  "verdict.empty": "暂无需要镜像的内容", "verdict.both": "{a}；{b}",
  "tile.complete": "完整", "tile.complete.note": "在所有目标上完整的版本", "tile.trouble": "需要处理", "tile.trouble.note": "失败、上游变更或撤回",
  "tile.now": "当前", "tile.idle": "空闲", "tile.next": "下次运行", "tile.none": "未安排", "tile.running": { other: "{n} 个运行" },
  "tile.of": "{n} / {all}", "tile.waits": { other: "{n} 个等待中" },

  "set.targets": "目标", "set.schedule": "计划", "set.next": "下次运行", "set.success": "上次成功", "set.last": "上次运行",
  "never": "从未", "none": "无", "now": "现在", "set.actions": "启动 {set} 的运行",
  "purpose.sync": "同步", "purpose.scrub": "校验", "purpose.prune": "清理",
  "start.sync": "立即同步", "start.scrub": "校验", "start.prune": "清理",
  "ask.prune": "清理 {set}？", "ask.prune.text": "将从目标中删除不在保留规则内且宽限期已过的内容。",
  "ask.cancel": "停止此次运行？", "ask.cancel.text": "已到达的内容会保留，下次运行从断点继续。",
  "started": "运行 {run} 即将开始", "cancelled": "正在停止运行 {run}", "refused": "被拒绝：", "unreachable": "无法连接到服务。",

  "phase.looking": "检查中", "phase.fetching": "下载中", "phase.draining": "收尾中",
  "run.cancel": "停止", "run.files": "{n} / {all} 个文件", "run.left": "剩余 {time}", "run.left.unknown": "剩余时间未知", 
  "run.all": "整个运行", "run.under": { other: "{n} 个文件传输中" },
  "run.unknown": "长度未知", "run.waits": "等待中", "run.beside": "同时进行",
  "run.speeds": "最近几分钟的有效速率",

  "failed.last": { other: "上次运行有 {n} 个文件失败" }, "failed.last.run": "上次运行未能进行",
  "failed.files": { other: "{n} 个文件失败" }, "failed.run": "未能进行",
  "why": "原因：", "note": "提示：", "failed.withheld": { other: "{n} 个指针文件保持不变，待此次运行的版本完整后再更新" },
  "failed.more": { other: "另有 {n} 个" },
  "class.unvouched": "无人担保", "class.origin": "来源", "class.corrupt": "内容错误", "class.store": "目标", "class.spool": "暂存",

  "plan": "预览", "plan.asking": "正在检查…", "plan.title": "{set} 的下次运行将执行的操作", "plan.close": "关闭", "plan.nothing": "无需任何操作：全部内容已就绪。",
  "plan.transfer": { other: "传输 {n} 个文件（{size}）" },
  "plan.transfer.unknown": { other: "传输 {n} 个文件（{size}，另有 {unknown} 个长度未知）" },
  "plan.inspect": { other: "在目标内检查 {n} 个" }, "plan.sidecars": { other: "{n} 个仅缺校验文件" },
  "plan.skip": "{n} 个已就绪", "plan.refused": { other: "{n} 个文件无法镜像" }, "plan.requests": { other: "{n} 次写入请求" },
  "plan.images": { other: "送入 {n} 个容器镜像（{size}）" }, "plan.images.skip": { other: "{n} 个容器镜像已就绪" },
  "plan.images.refused": { other: "{n} 个容器镜像无法镜像" },
  "plan.releases": { other: "{n} 个版本" }, "plan.files": { other: "{n} 个文件" }, "plan.file": "文件", "plan.what": "操作与原因", "plan.more": { other: "再显示一些（剩余 {n}）" },
  "action.skip": "保留", "action.sidecars": "补全", "action.inspect": "检查", "action.transfer": "传输",
  "reason.it is missing": "尚不存在", "reason.another content is wanted now": "现在需要另一份内容", "reason.no index tells what it holds": "没有索引说明其内容",
  "reason.it is not what was stored: its ETag is another": "与存入时不同：ETag 已变",

  "releases": "版本", "releases.filter": "查找版本", "releases.open": "全部展开", "releases.close": "全部收起",
  "releases.trouble": "只看不完整", "releases.none": "暂无版本。", "releases.nomatch": "没有符合条件的版本。",
  "releases.count": { other: "{n} 个版本" }, "releases.other": "其他文件", "releases.release": "版本", "releases.files": "文件数", "releases.size": "大小",
  "releases.missing": { other: "缺少 {n} 个文件" }, "releases.completed": "完整时间：{time}",
  "state.complete": "完整", "state.incomplete": "不完整", "state.missing": "缺失", "state.failed": "失败", "state.changed": "上游已变更", "state.withdrawn": "上游已撤回", "state.unknown": "未知",

  "history": "历史", "history.older": "更早的运行", "history.none": "尚无已结束的运行。", "history.unread": "无法读取历史：",
  "history.began": "开始", "history.set": "集合", "history.purpose": "运行", "history.end": "结果", "history.took": "用时", "history.fetched": "下载量",
  "history.failed": "失败",
  "history.transferred": "传输 {n}", "history.skipped": "已有 {n}", "history.repaired": "修复 {n}", "history.again": "重复下载 {size}",
  "history.repeated": "自 {since} 起连续 {n} 次",
  "history.origins": "来源", "history.marked": "变为完整",
  "end.done": "完成", "end.some-failed": "部分失败", "end.failed": "失败", "end.interrupted": "已停止", "end.held-by-other": "被其他进程占用",
  "plot.bytes": "每次运行的下载量", "plot.took": "用时", "plot.failed": "失败文件数", "plot.about": "{title}，最近 {n} 次运行：最大 {max}，最近 {last}",
};

const TABLES = { en: ENGLISH, zh: CHINESE };
const KEPT = "kops-mirror.language";

/** What a browser remembers, where it may. */
export const memory = {
  read(key, storage = "localStorage") {
    try { return window[storage].getItem(key); } catch { return null; }
  },
  write(key, value, storage = "localStorage") {
    try {
      if (value === null) window[storage].removeItem(key);
      else window[storage].setItem(key, value);
    } catch { /* It is not remembered then. */ }
  },
};

function preferred() {
  const kept = memory.read(KEPT);
  if (kept in TABLES) return kept;
  return (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en";
}

let language = preferred();
let plurals = new Intl.PluralRules(language);

export const spoken = () => language;
export const locale = () => (language === "zh" ? "zh-CN" : navigator.language.startsWith("en") ? navigator.language : "en");

export function speak(other) {
  language = other in TABLES ? other : "en";
  plurals = new Intl.PluralRules(language);
  memory.write(KEPT, language);
}

/** The words for a key, with what stands in braces filled in; `n` also chooses between one and several. */
export function words(key, values = {}) {
  let text = TABLES[language][key] ?? ENGLISH[key];
  if (text === undefined) return key;
  if (typeof text === "object") text = text[plurals.select(Number(values.n))] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The word for what the service calls by a name, or that name where there is none. */
export const named = (kind, name) => (`${kind}.${name}` in ENGLISH ? words(`${kind}.${name}`) : name);

/** Keys that one language has and the other has not: none, as a test sees. */
export const unequal = () => [
  ...Object.keys(ENGLISH).filter((key) => !(key in CHINESE)),
  ...Object.keys(CHINESE).filter((key) => !(key in ENGLISH)),
];
