import unittest

from cards import masked


class Masked(unittest.TestCase):
    def test_a_card_number_is_masked_except_its_last_four_digits(self):
        for number in ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111"]:
            self.assertEqual(masked(f"pays with {number}, tomorrow"), "pays with **** 1111, tomorrow")
        self.assertEqual(masked("378282246310005"), "**** 0005")
        self.assertEqual(masked("5555555555554444 or 6011000990139424"), "**** 4444 or **** 9424")

    def test_a_number_with_a_wrong_check_digit_is_unchanged(self):
        for text in ["4111111111111112", "order 1234567890123456", "0000 0000 0000 0000"]:
            self.assertEqual(masked(text), text)

    def test_a_number_of_the_wrong_length_is_unchanged(self):
        for text in ["", "no number", "+1 555 0100", "411111111111", "41111111111111110000"]:
            self.assertEqual(masked(text), text)


if __name__ == "__main__":
    unittest.main()
