"""Is an answer that should be Chinese in clean, Simplified Chinese.

Code, formulas, links, quotations, bracketed terms and words of the question are legitimate in any script.
Does not see a single English word outside its list, Traditional characters in quotation marks,
nor whether the Chinese is good. Answers to a request for another language have no fault here.
"""

import functools
import re
import unicodedata

from guardrail.probes.english_words import BORROWED, CLAUSE_WORDS, NEVER_BORROWED
from guardrail.probes.request import read_request
from guardrail.text import chinese_share, count_traditional

__all__ = ["LANGUAGE_FAULTS", "language_faults"]

LANGUAGE_FAULTS = ("empty", "english", "traditional", "other script", "garbled")
"""Every fault, in the order they are reported."""

_READ_CHARACTERS = 20_000
_LEAST_CHINESE = 0.5
_LEAST_TRADITIONAL = 3
_CODE = re.compile(
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`|\$\$[^$]*\$\$|\$[^$\n]*\$|\\\[.{0,1000}?\\\]|\\\(.{0,1000}?\\\)"
    r"|https?://\S+|(?<![\w.+-])[A-Za-z0-9_.+-]{1,64}@[\w-]{1,64}\.[\w.]{1,64}|</?[A-Za-z][^<>\n]{0,200}>",
    re.DOTALL,
)
_CODE_LINE = re.compile(
    r"^(?!.*[㐀-鿿])(?:.*[{}=<>_\\|$;#].*|.*\w\(.*|\s*(?:import|from|def|class|return|select|sudo|git|pip|npm)\b.*)$",
    re.MULTILINE | re.IGNORECASE,
)
_QUOTED = re.compile(
    r"“[^”\n]{0,200}”|「[^」\n]{0,200}」|『[^』\n]{0,200}』|‘[^’\n]{0,200}’|\"[^\"\n]{0,200}\"|《[^》\n]{0,80}》|（[^）\n]{0,200}）|\([^)\n]{0,200}\)|(?<!\*)\*(?!\*)[^*\n]{1,80}\*(?!\*)"
)
_LATIN_RUN = re.compile(r"[A-Za-z][A-Za-z'’-]*(?:[ ,;:.!?]{1,3}[A-Za-z][A-Za-z'’-]*)*")
_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
_TECHNICAL = re.compile(
    r"代码|编程|程序|软件|电脑|操作系统|网页|函数|变量|模型|算法|服务器|接口|命令|安装|数据库|数据集|浏览器|框架|脚本|终端|显卡|单位|化学|拉丁|学名|音标|字母|缩写"
)
"""Where English words are at home."""
_LEAST_SENTENCE = 5
_ALL_ENGLISH = 20
_OTHER_SCRIPT = re.compile(
    # Two letters in a row, since one kana or Cyrillic letter may be half a smiley, and の is a fashion.
    r"[\u3041-\u3096\u30a1-\u30fa\u31f0-\u31ff]{2}|[\uac00-\ud7a3\u1100-\u11ff\u3131-\u318e]{2}|[\u0400-\u052f]{3}"
    r"|[\u0590-\u08ff\u0900-\u0fff\u10a0-\u10ff\u1780-\u17ff]{2}"
    # Or one kana between Han of which one is not Simplified: 茶の場合.
    r"|[一-鿿][\u3041-\u3096](?=[一-鿿])"
)
_GARBLED = re.compile(
    r"\ufffd|(?:\\x[0-9a-f]{2}){2}|<0x[0-9A-F]{2}>|(?:&nbsp;){2}|[¤¦¨¬¯¶¸¿]{2}|[¤¦¨¬¯¶¸].*[¤¦¨¬¯¶¸]|锟斤拷|[烫屯]{4,}|(?:&#x?[0-9a-fA-F]{3,6};){3,}|(?:\\u[0-9a-fA-F]{4}){2}"
    # UTF-8 read as Latin-1 or Windows-1252: a lead byte and its two followers, twice.
    r"|(?:[à-ï][\x80-\xbf\u0152-\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122 ]{2}[^一-鿿\n]{0,3}){2}"
)
_SYMBOL_RUN = re.compile(r"[#@%&^~{}$*]{4,}")
_FENCED = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`", re.DOTALL)
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4}){4}")
_SYMBOLS = re.compile(r"[!-/:-@\[-`{-~]{10,}")
_WIDE_RUN = re.compile(r"[㐀-鿿\u3041-\u30ff\ue000-\uf8ff]{6,}")
_UNREADABLE = ("Cc", "Cs", "Co", "Cn")
_FINE_CONTROLS = "\t\n\r\f\v\u200b\u200d\ufeff"


def language_faults(question: str, text: str) -> tuple[str, ...]:
    """Return the names of the faults of an answer's visible text, in the order of `LANGUAGE_FAULTS`.

    Args:
        question: What was asked, all turns but the assistant's; it tells which language is due.
        text: The visible answer.
    """
    request = read_request(question)
    if request.language != "zh":
        return ()
    if not text.strip():
        return ("empty",)
    text = text[:_READ_CHARACTERS]
    prose = _CODE_LINE.sub("\n", _CODE.sub(" ", text))
    own = _QUOTED.sub("“”", prose)
    faults = {
        "english": _is_english(question, own, topic=request.foreign),
        "traditional": _is_traditional(question, own),
        "other script": not request.foreign and _holds_other_script(question, own),
        "garbled": _is_garbled(prose) or _is_noise(_FENCED.sub(" ", text)),
    }
    return tuple(name for name in LANGUAGE_FAULTS if faults.get(name))


def _is_english(question: str, own: str, *, topic: bool) -> bool:
    """A sentence of English, English words mixed into Chinese ones, or hardly any Chinese.

    Where foreign words are the topic: hardly any Chinese, or leaks again and again.
    """
    asked = {word.lower() for word in _WORD.findall(question)}
    share = chinese_share(own)
    han = share > 0
    mixed = words = leaks = 0
    sentence = False
    foreign: set[str] = set()
    for run in _LATIN_RUN.findall(own):
        spoken = [word for word in _WORD.findall(run) if word.lower() not in asked]
        lower = [word for word in spoken if word.islower()]
        clause = sum(word in CLAUSE_WORDS for word in lower)
        words += len(spoken)
        sentence |= len(spoken) >= _LEAST_SENTENCE and clause > 0 and 2 * len(lower) > len(spoken)
        mixed += clause
        leaks += han and len(spoken) == 1 and spoken[0].lower() in NEVER_BORROWED
        foreign |= {word for word in lower if len(word) > 3 and word not in BORROWED}
    if topic:
        all_words = len(_WORD.findall(own))
        return leaks >= 3 or (all_words >= _ALL_ENGLISH and share < 0.1)
    several = han and len(foreign) > 1 and _TECHNICAL.search(question + own) is None
    alone = not han and words >= 3 and own.rstrip().endswith((".", "!", "?"))
    scarce = words >= 8 and share < _LEAST_CHINESE
    return sentence or leaks > 0 or several or alone or mixed >= 2 or scarce


def _is_traditional(question: str, own: str) -> bool:
    if "繁" in question or "正体字" in question or count_traditional(question) >= 2:
        return False
    count = count_traditional(own)
    return count >= _LEAST_TRADITIONAL or (count == 2 and len(own) < 30)


def _holds_other_script(question: str, own: str) -> bool:
    if _OTHER_SCRIPT.search(question):
        return False
    return any(
        not match[0].endswith("の") or count_traditional(own) > 0
        for match in _OTHER_SCRIPT.finditer(own)
    )


def _is_garbled(prose: str) -> bool:
    if _GARBLED.search(prose) or any(map(_reads_as_utf8, _WIDE_RUN.findall(prose))):
        return True
    # Markdown repeats one mark, or two as in "**##"; noise mixes them.
    if any(len(set(run) - {"*"}) > 1 for run in _SYMBOL_RUN.findall(prose)):
        return True
    return any(map(_is_unreadable, set(prose)))


@functools.cache
def _is_unreadable(character: str) -> bool:
    fine = character in _FINE_CONTROLS or _is_emoji(character)
    return not fine and unicodedata.category(character) in _UNREADABLE


def _is_noise(text: str) -> bool:
    """Whether there are escape codes in a row or a long medley of symbols, which look like code."""
    if _ESCAPES.search(text):
        return True
    return any(len(set(run)) >= 6 for run in _SYMBOLS.findall(text))


def _is_emoji(character: str) -> bool:
    """Whether it stands in the emoji blocks, where newer ones are unknown to this Python."""
    return 0x1F000 <= ord(character) < 0x20000


def _reads_as_utf8(run: str) -> bool:
    """Whether Chinese characters are UTF-8 read as GBK (浣犲ソ): their bytes decode to Chinese."""
    data = run.encode("gb18030", "ignore")
    decoded = data.decode("utf-8", "ignore")
    return 3 * sum("一" <= c <= "鿿" for c in decoded) >= 0.6 * len(data)
