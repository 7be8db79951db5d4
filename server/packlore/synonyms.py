"""Words of one meaning, and what Chinese calls the things of backends. Data, and two look-ups.

They belong to the field, not to a pack: a rule names what is special to it in its aliases.
"""

from __future__ import annotations

from functools import cache

from packlore.terms import forms

_GROUPS = """
hang hangs freeze freezes frozen stuck stall stalls blocked unresponsive deadlock forever endless
slow slower slowly latency sluggish lag delay performance
fast faster quick speed throughput
lost lose loses missing disappear disappears vanish vanishes gone dropped swallowed
save saved persist persisted store stored write written
parallel concurrent concurrently concurrency simultaneous simultaneously fanout
database db postgres postgresql
fail fails failed failure crash crashes broken
error exception raise raised raises traceback
stop shutdown terminate kill sigterm exit quit
start startup boot launch
leak leaks leaked unclosed dangling
exhausted exhaustion starvation saturated full
limit cap bound bounded max maximum throttle
twice duplicate duplicates duplicated double
reuse share shared sharing global singleton
connection connections conn
setting settings configuration config env environment
authentication auth login token authorize permission
log logging logs logger
header headers
stale outdated expired old idle
thread threads executor threadpool
batch batches bulk chunk chunks chunked
row rows record records
migration migrations migrate alembic schema
memory ram oom
timezone tz utc aware naive
metric metrics monitoring prometheus gauge grafana
healthcheck liveness readiness probe
cleanup teardown finalizer dispose close closing
cancel cancelled canceled cancellation abort aborted interrupt
background fireandforget
queue worker workers
replica replicas pod pods instance instances
query queries select statement sql
async asyncio asynchronous await coroutine coroutines
endpoint route handler view api
response responses reply
serialize serialization json encode
stream streaming
lazy lazily
relationship relation related children parent
increment counter balance stock
retry retries retrying
wait waits waiting
"""
_CHINESE = {
    "连接池": "connection pool",
    "连接": "connection",
    "数据库": "database",
    "超时": "timeout",
    "事务": "transaction",
    "提交": "commit",
    "回滚": "rollback",
    "取消": "cancel",
    "任务": "task",
    "协程": "coroutine",
    "阻塞": "block blocking",
    "卡住": "hang stuck",
    "卡死": "hang stuck",
    "会话": "session",
    "迁移": "migration alembic",
    "锁": "lock",
    "并发": "concurrent concurrency",
    "泄漏": "leak",
    "泄露": "leak",
    "中间件": "middleware",
    "依赖": "dependency",
    "注入": "depends injection",
    "跨域": "cors origin",
    "后台": "background",
    "生命周期": "lifespan",
    "健康检查": "health check",
    "序列化": "serialize",
    "响应": "response",
    "时区": "timezone",
    "时间": "time datetime",
    "批量": "bulk batch",
    "插入": "insert",
    "懒加载": "lazy loading",
    "延迟加载": "lazy loading",
    "预加载": "eager loading",
    "关系": "relationship",
    "线程": "thread",
    "进程": "process",
    "事件循环": "event loop",
    "循环": "loop",
    "异常": "exception",
    "错误": "error",
    "报错": "error",
    "重试": "retry",
    "监控": "metrics monitoring",
    "指标": "metrics",
    "耗尽": "exhausted",
    "满": "full exhausted",
    "关闭": "close shutdown",
    "启动": "start startup",
    "配置": "settings configuration",
    "环境变量": "environment variable",
    "请求": "request",
    "接口": "endpoint api",
    "日志": "log",
    "慢": "slow",
    "内存": "memory",
    "丢失": "lost",
    "没有保存": "lost saved",
    "没了": "lost",
    "查询": "query",
    "信号量": "semaphore",
    "限制": "limit",
    "限流": "limit",
    "清理": "cleanup",
    "垃圾回收": "garbage collected",
    "引用": "reference",
    "重复": "duplicate twice",
    "更新": "update",
    "计数": "counter increment",
    "库存": "stock counter",
    "加锁": "lock",
    "部署": "deploy",
    "副本": "replicas",
    "缓存": "cache",
    "客户端": "client",
    "服务器": "server",
    "断开": "disconnected stale",
    "失效": "stale expired",
    "过期": "expired",
    "认证": "authentication",
    "鉴权": "authentication",
    "权限": "permission authentication",
    "登录": "login authentication",
    "密码": "password",
    "校验": "validation",
    "验证": "validation",
    "部分结果": "partial results",
    "生成器": "generator",
    "仓储": "repository",
    "大小": "size",
    "多少": "size count",
    "表": "table",
    "列": "column",
    "索引": "index",
    "预处理语句": "prepared statement",
    "准备语句": "prepared statement",
    "同时": "concurrent same time",
    "并行": "parallel concurrent",
    "失败": "fail failed",
    "成功": "success",
    "立刻": "immediately",
    "下游": "downstream service",
    "服务": "service",
    "外键": "foreign key",
    "约束": "constraint",
    "唯一": "unique",
    "队列": "queue",
    "消费者": "consumer worker",
    "生产者": "producer",
    "固定数量": "fixed number",
    "引擎": "engine",
    "测试": "test",
    "全局": "global",
    "单例": "singleton global",
    "字段": "field",
    "返回": "return response",
    "前端": "frontend browser",
    "浏览器": "browser",
    "哈希": "hash",
    "模型": "model",
    "对象": "object",
    "属性": "attribute",
    "访问": "access",
    "抛出": "raise",
    "捕获": "catch except",
    "吞掉": "swallow",
    "忽略": "ignore",
    "退出": "exit shutdown",
    "停止": "stop shutdown",
    "重启": "restart",
    "滚动更新": "deploy rolling restart",
    "上线": "deploy",
    "迁移脚本": "migration alembic",
    "建表": "create table",
    "改表": "alter table",
    "加列": "add column alter table",
    "长事务": "long transaction",
    "死锁": "deadlock",
    "等待": "wait",
    "排队": "wait queue",
    "超过": "limit exceed",
    "上限": "limit maximum",
    "太多": "too many",
    "占用": "hold",
    "持有": "hold",
    "释放": "release",
    "借出": "checked out",
    "归还": "return release",
    "空闲": "idle",
    "断线": "disconnect",
    "断开连接": "disconnected",
    "防火墙": "firewall idle",
    "第一次请求": "first request",
    "心跳": "heartbeat ping",
    "预检": "preflight ping",
    "定时任务": "cron job",
    "爬虫": "crawler scraper",
    "下载": "download",
    "上传": "upload",
    "导入": "import",
    "导出": "export",
    "大量": "bulk many",
    "百万": "million bulk",
    "逐条": "row by row",
    "分批": "chunk batch",
    "流式": "stream streaming",
    "生成": "generate",
    "发邮件": "send mail email background",
    "通知": "notify",
    "回调": "callback",
    "钩子": "hook",
    "拦截器": "middleware",
    "请求头": "header",
    "请求ID": "request id",
    "链路": "trace request id",
    "耗时": "duration timing",
    "计时": "timing",
    "顺序": "order",
    "注册": "register add",
    "路由": "route router",
    "参数": "parameter",
    "类型": "type",
    "格式": "format",
    "统一": "uniform standard",
    "错误码": "status code",
    "状态码": "status code",
    "探针": "probe liveness readiness",
    "存活": "liveness",
    "就绪": "readiness",
    "环境": "environment",
    "密钥": "secret",
    "默认值": "default",
    "缺少": "missing",
    "启动时": "startup",
    "版本": "version",
    "升级": "upgrade",
    "容器": "container",
    "多进程": "processes workers",
    "多个副本": "replicas",
    "连接数": "connections number",
    "最大连接数": "max_connections",
    "公式": "formula",
    "计算": "calculate size",
    "吞吐": "throughput",
    "延迟": "latency",
    "性能": "performance slow",
    "越来越慢": "slower slow",
    "卡顿": "slow block",
    "无响应": "hang unresponsive",
    "假死": "hang stuck",
    "同步": "sync blocking",
    "阻塞调用": "blocking call",
    "事件": "event",
    "上下文": "context",
    "作用域": "scope",
    "子任务": "child task",
    "任务组": "taskgroup",
    "异常组": "exceptiongroup",
    "重新抛出": "raise reraise",
    "收尾": "cleanup",
    "保护": "shield",
    "被回收": "garbage collected",
    "弱引用": "weak reference",
    "竞态": "race",
    "脏读": "stale read",
    "丢失更新": "lost update",
    "乐观锁": "optimistic lock version",
    "悲观锁": "for update lock",
    "幂等": "idempotent retry",
    "自增": "increment",
    "点赞": "likes counter",
    "余额": "balance counter",
    "扣减": "decrement counter",
    "加载": "load loading",
    "关联": "relationship related",
    "外层": "outer",
    "嵌套": "nested",
    "列表": "list",
    "分页": "page",
    "总数": "count",
    "懒": "lazy",
    "提前": "early",
    "之前": "before",
    "之后": "after",
    "响应发出": "response sent",
    "写入": "write insert",
    "没写进": "lost write",
    "读不到": "missing read",
    "旧数据": "stale data",
    "缓冲": "buffer",
    "域名解析": "dns",
    "域名": "domain origin",
    "证书": "certificate tls",
    "重用": "reuse",
    "复用": "reuse shared",
    "保持": "keep",
    "文件描述符": "file descriptors",
    "端口": "port",
    "套接字": "socket",
}


_NONE: frozenset[str] = frozenset()


@cache
def _groups() -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for line in _GROUPS.strip().splitlines():
        group = frozenset(form for word in line.split() for form in forms(word))
        for term in group:
            found[term] = (found.get(term, frozenset()) | group) - {term}
    return found


def alike(term: str) -> frozenset[str]:
    """The other terms of the same meaning."""
    return _groups().get(term, _NONE)


def translate(text: str) -> str:
    """The English of the Chinese words in a text, the longest first."""
    return " ".join(english for chinese, english in _CHINESE.items() if chinese in text)
