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
