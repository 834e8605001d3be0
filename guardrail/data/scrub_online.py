"""Personal data of online conversations → its kind in 〔〕.

On top of what every import scrubs (mobile numbers, identity and bank cards with a right check digit, e-mails): land lines, number
plates, WeChat and QQ accounts, keys and passwords that a form or a label gives away, IP addresses, what stands in a link's query,
addresses with a house number or behind a label, and names where something marks them: a label (姓名：…), a form of words (我叫…), a title (…先生), or the log itself. Does not see a name or an address that
nothing marks, a 15-digit identity card, numbers written out in characters, or who is meant by what a person tells of themselves.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable

from guardrail.redaction import redacted_text
from guardrail.sets.read.clean import scrub_personal_data

__all__ = ["scrub_online"]

_WIDE_DIGITS = {0xFF10 + n: str(n) for n in range(10)}
_KIND = re.compile(r"〔([^〔〕]{2,6})〕")

_PIECE = re.compile(r"[\t -~]{1,2000}(?<=[,;.!?])(?=\s)|[\t -~]{1,2000}")
"""Where a key or a password may stand with its label; in pieces, since looking for one in a long run takes its square, of one line and
without Chinese, which would go with the password. Ends where a sentence does, so that no label is cut off."""
_PLAIN_WORD = re.compile(
    r"(?:(?<=\bbasic)|(?<=\bbearer))(?=\s+[a-z][a-z-]+(?:[\s.,;:!?)]|\Z))", re.IGNORECASE
)
"""Between `basic` and a word of letters, which is no token."""
_PASSWORD = re.compile(
    r"(?P<keep>(?:(?:密码|口令|密钥)[ \t]*(?:是|为|[:：=])|(?:password|passwd|pwd|api[_-]?key)[ \t]*：)[ \t]*)"
    r"(?!\d{1,2}(?:[-~]\d{1,2})?[ \t]*[位个])(?P<it>[!-~]{4,})",
    re.IGNORECASE,
)
_LINK = re.compile(
    r"(?P<keep>\bhttps?://[^\s?#，。；、“”\"'<>（）]{1,500})[?#][^\s，。；、“”\"'<>（）]*"
)
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{1,4}(?![\w:])")
_LAND_LINE = re.compile(r"(?<![\d-])0\d{2,3}-\d{7,8}(?![\d-])")
_PLATE = re.compile(
    r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-NP-Z][·•\s-]?"
    r"(?:[DF][A-HJ-NP-Z0-9]\d{4}|\d{5}[DF]|[A-HJ-NP-Z0-9]{4}[A-HJ-NP-Z0-9挂学警港澳领])(?![A-Za-z0-9])"
)
_WECHAT = re.compile(
    r"(?P<keep>(?:微信|薇信|威信|wechat|weixin|(?<![a-z])(?:wx|vx)(?![a-z])|加[vV])(?:号码?|账号|id)?\s*(?:是|为|[:：])?\s*)(?P<it>[A-Za-z][A-Za-z0-9_-]{5,19})(?![A-Za-z0-9_-])",
    re.IGNORECASE,
)
_WXID = re.compile(r"\bwxid_[A-Za-z0-9]{6,24}\b")
_QQ = re.compile(r"(?P<keep>(?i:qq)(?:号码?)?\s*(?:是|为|[:：])?\s*)(?P<it>[1-9]\d{4,10})(?!\d)")
_STREET = re.compile(
    r"[一-鿿]{1,8}?(?:路|街|大道|道|巷|弄|胡同|村|小区|花园|公寓)\s*\d{1,5}\s*(?:号|弄|栋|幢|组)"
    r"(?:[一-鿿]{0,6}\s*[A-Za-z0-9-]{1,6}\s*(?:号楼|栋|幢|座|单元|层|楼|室|户|号)){0,4}"
)
_REGION = re.compile(r"[一-鿿]{1,7}(?:省|自治区|市|州|盟|区|县|旗|街道|镇|乡)\Z")
_ADDRESS_LABEL = re.compile(
    r"(?P<keep>(?:(?:家庭|收货|通讯|联系|居住|户籍)?(?:地址|住址)\s*(?:是|为|[:：])|(?:家住|住在)(?=[^\s，。；,;\n]{0,20}[省市区县镇村路街号]))\s*)"
    r"(?P<it>[^\s，。；,;\n？?！!〔〕]{4,40})"
)
_SURNAMES = (
    "王李张刘陈杨黄赵周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范方石姚谭"
    "廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文"
)
_NAME = rf"(?:欧阳|司马|上官|诸葛|[{_SURNAMES}])[一-鿿]{{1,2}}(?<![的了吗呢吧啊是人])"
_NAME_LABEL = re.compile(
    r"(?P<keep>(?:姓名|户名|收[件货]人|联系人|借款人|持卡人|真名)\s*(?:是|为|叫|[:：])\s*)(?P<it>[一-鿿·]{2,10}?)(?=$|[\s，。；、,;（(\d〔]|的|手机|电话|身份证)",
    re.MULTILINE,
)
_NAME_SAID = re.compile(
    rf"(?P<keep>(?:我叫|我是|我的名字[叫是]|本人)\s*)(?P<it>{_NAME})(?=$|[\s，。；、,;！!？?（(〔])",
    re.MULTILINE,
)
_NAME_TITLE = re.compile(
    rf"(?P<it>{_NAME}|[{_SURNAMES}])(?P<after>(?:先生|女士|小姐|太太|师傅|经理|老师|医生)(?!们))"
)


def scrub_online(text: str, names: Iterable[str] = ()) -> tuple[str, Counter[str]]:
    """Return the text with personal data replaced, and how many of each kind were.

    Args:
        text: Of one turn.
        names: What the log itself marks as a person's, replaced wherever it stands.
    """
    found: Counter[str] = Counter()
    text = text.translate(_WIDE_DIGITS)
    for name in sorted({name for name in names if len(name) > 1}, key=lambda one: -len(one)):
        found["姓名"] += text.count(name)
        text = text.replace(name, "〔姓名〕")
    before = Counter(_KIND.findall(text))
    text, _ = scrub_personal_data(_PIECE.sub(_without_secrets, text))
    found.update(Counter(_KIND.findall(text)) - before)

    def take(kind: str, pattern: re.Pattern[str], text: str) -> str:
        def hide(match: re.Match[str]) -> str:
            if kind == "IP地址" and not _is_address(match[0]):
                return match[0]
            found[kind] += 1
            kept = match.groupdict()
            return f"{kept.get('keep') or ''}〔{kind}〕{kept.get('after') or ''}"

        return pattern.sub(hide, text)

    for kind, pattern in (
        ("密码", _PASSWORD),
        ("链接参数", _LINK),
        ("IP地址", _IPV4),
        ("IP地址", _IPV6),
        ("座机号", _LAND_LINE),
        ("车牌号", _PLATE),
        ("微信号", _WECHAT),
        ("微信号", _WXID),
        ("QQ号", _QQ),
        ("地址", _ADDRESS_LABEL),
        ("姓名", _NAME_LABEL),
        ("姓名", _NAME_SAID),
        ("姓名", _NAME_TITLE),
    ):
        text = take(kind, pattern, text)
    text, found["地址"] = _without_streets(text, found["地址"])
    return text, +found


def _without_secrets(piece: re.Match[str]) -> str:
    return "".join(map(redacted_text, _PLAIN_WORD.split(piece[0])))


def _without_streets(text: str, count: int) -> tuple[str, int]:
    """A text without streets with a house number and the regions before them, and the count with them."""
    parts, end = [], 0
    for street in _STREET.finditer(text):
        start = street.start()
        while region := _REGION.search(text, max(end, start - 12), start):
            start = region.start()
        parts += [text[end:start], "〔地址〕"]
        end, count = street.end(), count + 1
    return "".join([*parts, text[end:]]), count


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
