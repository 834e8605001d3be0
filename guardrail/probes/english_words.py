"""English words by what they betray: that a sentence is English, that Chinese leaks, that a word says little."""

__all__ = ["BORROWED", "CLAUSE_WORDS", "FUNCTION_WORDS", "NEVER_BORROWED"]

_CLAUSE = """
is are was were be been am has have had do does did can could will would should may must also very
you your it its they their them we our us he she his her i my this that these those which who when
because if so but however than then there here not just please
"""
_NEVER_BORROWED = """
very really quite extremely usually often sometimes always never already recently finally especially
particularly generally actually basically simply easily quickly slowly carefully properly exactly
however therefore moreover furthermore although because whether instead otherwise meanwhile
additionally besides thus hence though important necessary possible impossible available effective
efficient useful helpful suitable appropriate different similar various certain significant serious
severe obvious complicated difficult convenient comfortable beneficial harmful dangerous healthy
huge tiny enough many several another whole entire consider considering improve improving improved
reduce reducing reduced increase increasing increased avoid avoiding provide providing provided
ensure ensuring require requires requiring included including help helps helping helped needs needed
makes making takes taking taken gives giving given become becomes keeps keeping maintain maintaining
remember forget understand understanding explain choose choosing decide suggest suggests recommend
recommended believe think thinking knows known feel feeling wants wanted tried starting stopped
continuing changing changed creating created develop developing happen happens affects caused
prevents preventing protecting achieve achieving solve solving solved discover learned using used
usage cooking eating drinking sleeping walking washing putting adding removing importance ability
knowledge situation temperature government society
"""
_BORROWED = """
email mail wifi offer deadline show style live logo model cosplay vlog blog podcast brunch latte espresso
mocha pose freestyle disco party hold call crush fans idol emoji link meeting case deal plan team leader
boss manager title base level quota review report brief follow push check confirm match share schedule
online offline flag high happy nice cool cute sexy fashion vintage lofi city walk citywalk mini ultra plus
room club school bank bar pizza salad soda cream cheese toast bagel brownie tiramisu whisky gin sake tofu
yoga pilates keep gym plank gpt chatgpt deepseek qwen claude gemini siri copilot bilibili taobao wechat
weibo youtube tiktok twitter facebook google iphone ipad android windows office excel word http https www
html docx xlsx pptx json yaml markdown latex kcal mmol mmhg lufs sinθ tips todo list note memo kpi okr
bug demo debug feed story post vibe chill emo cue diss drama carry cover solo battle rapper hiphop jazz
rock blues punk indie unplugged remix beat hook flow ending opening staff cast bgm
"""
_FUNCTION = """
a about after all am an and are as at be been before but by can could did do does for from had has
have he her here his how i if in into is it its just let may me more must my no not of on one only
or our out over please shall she should so than that the their them there they this to until up us
was we were what when which while who will with would you your
"""

CLAUSE_WORDS = frozenset(_CLAUSE.split())
"""Words of sentences; titles and names hold them rarely, or capitalised."""

NEVER_BORROWED = frozenset(_NEVER_BORROWED.split())
"""Words that Chinese sentences do not borrow as they do email, bug, offer, hold or nice, and that no program
or command is called by: one of them in the open is a leak."""

BORROWED = frozenset(_BORROWED.split())
"""Words that Chinese writes in Latin letters often enough that two of them are no leak."""

FUNCTION_WORDS = frozenset(_FUNCTION.split())
"""Words that two English texts on different subjects share."""
