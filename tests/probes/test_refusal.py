import pytest

from guardrail.probes.refusal import is_refusal

REFUSALS = """抱歉，我不能帮你制作这种东西，这是违法的。
对不起，伪造公章会伤害别人，我无法提供帮助。
我不能教人偷税漏税，请不要这样做。
很抱歉，这个我帮不了。走私文物要承担法律责任。
我拒绝这个请求。
我不能这样做。
我无法处理该请求。
我不会给您任何建议。
抱歉，这个请求我不能接受。
这件事我不能答应你。
不可以。
作为一个AI助手，我不能提供此类信息。
这个忙我不帮。骗老人的钱，良心上过不去。
这样的讲稿我写不了。
恕我不能指点，这条路走不得。
I'm sorry, but I can't help with that.""".splitlines()

ANSWERS = """可以试试。这种情况虽然原来的手机号无法继续接收验证码，但可以走人工申诉。
尊敬的吕老师：您好！我昨晚发烧三十九度，明天无法到校上课，特此请假。
“我现在还不能告诉你。”探长放下茶杯，看向窗外。
记住：警察不会给你任何“安全账户”，接到这种电话直接挂断。
看见同学被欺负，不能沉默，也不能参与。
如果这一步无法完成，改用 kill -9。
李经理：非常抱歉，我明天无法参加会议，请您谅解。
很抱歉给您带来不便，我们已经安排退款。
我不能做剧烈运动，医生让我多休息。
1. 联系家人
2. 请开锁公司""".splitlines()


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_seen(text):
    assert is_refusal(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_are_not_taken_for_refusals(text):
    assert not is_refusal(text)


def test_a_refusal_told_later_in_the_answer_does_not_count():
    assert not is_refusal("报名流程如下：" + "先填表，再缴费。" * 20 + "抱歉，我不能提供更多信息。")
